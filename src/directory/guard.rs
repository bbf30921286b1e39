//! Refuses messages that would unpack to far more than they weigh, before chitchat unpacks them.
//!
//! In: a message's bytes. Out: yes or no. Chitchat bounds each compressed block to 64 KiB but not
//! how many there are, and a block of zeros takes a dozen bytes. This walks the frame (a digest of
//! nodes, then blocks with their length) without unpacking; what is inside is chitchat's to judge.

/// Blocks in one message. Chitchat's sender fills blocks of 16 KiB, so 256 hold 4 MiB of facts in
/// one message of 64 KiB; a message made to hurt unpacks to 16 MiB at most.
const BLOCKS_MAX: usize = 256;

const MAGIC: [u8; 2] = 45_139_u16.to_le_bytes();
const VERSION: u8 = 0;
const SYN: u8 = 0;
const SYN_ACK: u8 = 1;
const ACK: u8 = 2;
const BAD_CLUSTER: u8 = 3;
/// Heartbeat, last collected version, newest version.
const NODE_DIGEST_BYTES: usize = 3 * 8;

/// Whether the frame is chitchat's and within bounds.
pub(super) fn admits(message: &[u8]) -> bool {
    frame(message).is_some()
}

fn frame(message: &[u8]) -> Option<()> {
    let (&[m0, m1, version, kind], mut rest) = message.split_first_chunk::<4>()?;
    if [m0, m1] != MAGIC || version != VERSION {
        return None;
    }
    match kind {
        SYN => {
            skip_digest(&mut rest)?;
            skip_string(&mut rest)?;
        }
        SYN_ACK => {
            skip_digest(&mut rest)?;
            skip_blocks(&mut rest)?;
        }
        ACK => skip_blocks(&mut rest)?,
        BAD_CLUSTER => {}
        _ => return None,
    }
    rest.is_empty().then_some(())
}

fn skip(rest: &mut &[u8], len: usize) -> Option<()> {
    *rest = rest.get(len..)?;
    Some(())
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (&first, tail) = rest.split_first()?;
    *rest = tail;
    Some(first)
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    let (&bytes, tail) = rest.split_first_chunk::<2>()?;
    *rest = tail;
    Some(usize::from(u16::from_le_bytes(bytes)))
}

fn skip_string(rest: &mut &[u8]) -> Option<()> {
    let len = length(rest)?;
    skip(rest, len)
}

fn skip_digest(rest: &mut &[u8]) -> Option<()> {
    for _ in 0..length(rest)? {
        skip_string(rest)?; // the node's name
        skip(rest, 8)?; // its generation
        let address = match byte(rest)? {
            4 => 4,
            6 => 16,
            _ => return None,
        };
        skip(rest, address + 2)?;
        skip(rest, NODE_DIGEST_BYTES)?;
    }
    Some(())
}

fn skip_blocks(rest: &mut &[u8]) -> Option<()> {
    for _ in 0..=BLOCKS_MAX {
        match byte(rest)? {
            0 => return Some(()),
            1 | 2 => skip_string(rest)?,
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ack_with_blocks(blocks: usize) -> Vec<u8> {
        let mut message = vec![MAGIC[0], MAGIC[1], VERSION, ACK];
        for _ in 0..blocks {
            message.extend_from_slice(&[1, 1, 0, 99]);
        }
        message.push(0);
        message
    }

    #[test]
    fn more_blocks_than_a_sender_makes_are_refused() {
        assert!(admits(&ack_with_blocks(0)));
        assert!(admits(&ack_with_blocks(BLOCKS_MAX)));
        assert!(!admits(&ack_with_blocks(BLOCKS_MAX + 1)));
    }

    #[test]
    fn other_frames_are_refused() {
        assert!(!admits(b""));
        assert!(!admits(&[MAGIC[0], MAGIC[1], 1, BAD_CLUSTER]), "another version");
        assert!(!admits(&[MAGIC[0], MAGIC[1], VERSION, 9]), "another kind");
        assert!(!admits(&[MAGIC[0], MAGIC[1], VERSION, BAD_CLUSTER, 0]), "bytes left over");
        assert!(!admits(&[MAGIC[0], MAGIC[1], VERSION, SYN, 255, 255]), "nodes that are not there");
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut message = vec![MAGIC[0], MAGIC[1], VERSION];
            message.extend(bytes);
            let _ = admits(&message);
        }
    }
}
