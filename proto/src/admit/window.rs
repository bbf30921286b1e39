//! Which of a sender's counters were seen: a few of them by name, or a sliding bitmap, after
//! RFC 6479.
//!
//! In a large mesh most senders are heard of a few times a minute, and a bitmap for each would be
//! the greatest part of a peer's memory. So the first few counters are listed; who says more gets
//! its bitmap. Both tell the same.
//!
//! The bitmap's words lie in a ring; moving the window on clears whole words and shifts nothing. One
//! word is always partly beyond the newest counter, so one word less than the ring holds is promised.

/// Words of the ring: 1 KiB for a sender that is heard often.
const WORDS: usize = 128;
/// Counters below the newest that are still told apart; older ones count as seen. At 100,000
/// packets a second this is 80 ms of reordering.
pub const WINDOW: u64 = (WORDS as u64 - 1) * 64;
/// Counters that are listed: with the floor they fill a line of the processor's cache.
const LISTED: usize = 14;
/// An empty place in the list.
const NONE: u32 = u32::MAX;

/// The counters of one sender.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// One above the greatest counter seen.
    top: u64,
    seen: Seen,
}

#[derive(Clone, Debug, Default)]
enum Seen {
    /// All below `top` counts as seen. So it begins, and so it is while nothing is heard.
    #[default]
    All,
    Listed(Box<Few>),
    Marked(Box<[u64; WORDS]>),
}

#[derive(Clone, Copy, Debug)]
struct Few {
    /// All below counts as seen.
    floor: u64,
    /// How far above it the others are.
    above: [u32; LISTED],
}

impl Few {
    fn has(&self, counter: u64) -> bool {
        self.above.iter().any(|&above| above != NONE && self.floor + u64::from(above) == counter)
    }

    /// Lists one more, unless it is too far above the floor or there is no room; what is out of the
    /// window below `top` leaves its place.
    fn list(&mut self, counter: u64, top: u64) -> bool {
        let free = |&at: &u32| at == NONE || top - (self.floor + u64::from(at)) > WINDOW;
        let above = u32::try_from(counter - self.floor).ok().filter(|&above| above != NONE);
        let (Some(above), Some(place)) = (above, self.above.iter().position(free)) else {
            return false;
        };
        self.above[place] = above;
        true
    }
}

const fn word_of(counter: u64) -> usize {
    (counter / 64 % WORDS as u64) as usize
}

impl Window {
    /// A window for which everything up to `counter` was seen.
    #[must_use]
    pub const fn after(counter: u64) -> Self {
        Self { top: counter.saturating_add(1), seen: Seen::All }
    }

    /// Whether `counter` was not seen yet. The greatest number there is never counts as new.
    #[must_use]
    pub fn is_new(&self, counter: u64) -> bool {
        if counter >= self.top {
            return counter != u64::MAX;
        }
        if self.top - counter > WINDOW {
            return false;
        }
        match &self.seen {
            Seen::All => false,
            Seen::Listed(few) => counter >= few.floor && !few.has(counter),
            Seen::Marked(bits) => bits[word_of(counter)] & 1 << (counter % 64) == 0,
        }
    }

    /// Notes that `counter`, which [`is_new`](Self::is_new), was seen.
    pub fn mark(&mut self, counter: u64) {
        let top = self.top.max(counter + 1);
        if matches!(self.seen, Seen::All) {
            self.seen = Seen::Listed(Box::new(Few { floor: self.top, above: [NONE; LISTED] }));
        }
        if let Seen::Listed(few) = &mut self.seen
            && !few.list(counter, top)
        {
            let few = **few;
            self.begin_bitmap(few);
        }
        self.mark_bit(counter);
        self.top = top;
    }

    /// Marks what was listed in a bitmap.
    fn begin_bitmap(&mut self, Few { floor, mut above }: Few) {
        let mut bits = Box::new([u64::MAX; WORDS]);
        bits[word_of(floor)] = (1 << (floor % 64)) - 1;
        (self.top, self.seen) = (floor, Seen::Marked(bits));
        above.sort_unstable();
        for above in above.into_iter().filter(|&above| above != NONE) {
            self.mark_bit(floor + u64::from(above));
        }
    }

    /// Marks a counter in the bitmap, if there is one.
    fn mark_bit(&mut self, counter: u64) {
        let Seen::Marked(bits) = &mut self.seen else { return };
        if counter >= self.top {
            let (first, last) = (self.top.div_ceil(64), counter / 64);
            if last >= first + WORDS as u64 {
                bits.fill(0);
            } else {
                (first..=last).for_each(|word| bits[word_of(word * 64)] = 0);
            }
            self.top = counter + 1;
        }
        bits[word_of(counter)] |= 1 << (counter % 64);
    }

    /// Bytes of its list or bitmap.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        match &self.seen {
            Seen::All => 0,
            Seen::Listed(_) => size_of::<Few>(),
            Seen::Marked(_) => WORDS * 8,
        }
    }

    /// Gives the memory back; whatever is missing below the newest counter counts as seen.
    pub fn shrink(&mut self) {
        self.seen = Seen::All;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_counter_is_new_once() {
        let mut window = Window::default();
        for counter in [0, 1, 5, 3, 64, 63, 9_000, 8_999] {
            assert!(window.is_new(counter), "{counter}");
            window.mark(counter);
            assert!(!window.is_new(counter), "{counter}");
        }
    }

    #[test]
    fn the_edges_of_the_window_hold() {
        for newest in [WINDOW, WINDOW + 63, WINDOW + 64, WINDOW + 65, 1 << 40, u64::MAX - 1] {
            let mut window = Window::default();
            window.mark(newest);
            let oldest = newest + 1 - WINDOW;
            assert!(window.is_new(oldest), "the oldest of {newest}");
            assert!(oldest == 0 || !window.is_new(oldest - 1), "before the oldest of {newest}");
            window.mark(oldest);
            assert!(!window.is_new(oldest) && window.is_new(oldest + 1));
        }
        assert!(!Window::default().is_new(u64::MAX), "its successor would be 0");
    }

    #[test]
    fn a_leap_forgets_nothing_that_was_seen() {
        for leap in [1, 63, 64, 65, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 1 << 50] {
            let mut window = Window::default();
            (0..200).for_each(|counter| window.mark(counter));
            window.mark(200 + leap);
            assert!((0..200).all(|counter| !window.is_new(counter)), "after a leap of {leap}");
        }
    }

    #[test]
    fn after_shrinking_only_later_counters_are_new() {
        for newest in [0, 62, 63, 64, 8_127, 8_128, 8_191, 8_192, 123_456] {
            let mut window = Window::default();
            window.mark(newest);
            window.shrink();
            assert!(
                !window.is_new(newest) && newest.checked_sub(1).is_none_or(|c| !window.is_new(c))
            );
            window.mark(newest + 1);
            window.mark(newest + 3);
            assert!(window.is_new(newest + 2), "between later ones, after {newest}");
            assert!((0..=newest).all(|counter| !window.is_new(counter)), "up to {newest}");
        }
        let window = Window::after(7);
        assert!(!window.is_new(7) && window.is_new(8));
    }

    /// All that was seen, by the letter of W-42.
    #[derive(Default)]
    struct Model {
        seen: BTreeSet<u64>,
        floor: u64,
    }

    impl Model {
        fn top(&self) -> u64 {
            self.seen.last().map_or(self.floor, |&newest| self.floor.max(newest + 1))
        }

        fn is_new(&self, counter: u64) -> bool {
            counter >= self.floor
                && self.top().saturating_sub(counter) <= WINDOW
                && !self.seen.contains(&counter)
        }
    }

    proptest! {
        #[test]
        fn w42_lists_and_bitmaps_tell_what_was_seen(
            steps in prop::collection::vec((0..16_u8, 0..9_000_u64, any::<bool>()), 1..60),
        ) {
            let (mut window, mut model) = (Window::default(), Model::default());
            for (kind, step, back) in steps {
                if kind == 0 {
                    window.shrink();
                    model.floor = model.top();
                    continue;
                }
                // Mostly near the newest, now and then a leap.
                let step = if kind < 12 { step / 700 } else { step };
                let top = model.top();
                let counter = if back { top.saturating_sub(step) } else { top + step };
                prop_assert_eq!(window.is_new(counter), model.is_new(counter), "{}", counter);
                if model.is_new(counter) {
                    window.mark(counter);
                    model.seen.insert(counter);
                }
            }
            for counter in model.top().saturating_sub(WINDOW + 70)..model.top() + 70 {
                prop_assert_eq!(window.is_new(counter), model.is_new(counter), "{}", counter);
            }
        }

        #[test]
        fn nothing_is_ever_new_twice(
            steps in prop::collection::vec((0..20_000_u64, any::<bool>(), 0..100_u8), 1..400),
        ) {
            let (mut window, mut seen, mut base) = (Window::default(), BTreeSet::new(), 0_u64);
            for (step, forward, shrink) in steps {
                let counter = if forward { base + step } else { base.saturating_sub(step) };
                if window.is_new(counter) {
                    prop_assert!(seen.insert(counter), "{} twice", counter);
                    window.mark(counter);
                } else {
                    let old = base.saturating_sub(counter) + 1 > WINDOW;
                    prop_assert!(seen.contains(&counter) || old || shrink == 0 || !forward);
                }
                base = base.max(counter);
                if shrink == 0 {
                    window.shrink();
                }
            }
        }
    }
}
