//! The parts of the benchmark, by name.

use clap::ValueEnum;

/// A part that can be run on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Part {
    /// One hot key, 24-byte text, read without cloning.
    HotBorrow,
    /// The same, cloned.
    HotClone,
    /// Zipf 0.99 over all keys, all of them resident, read without cloning.
    ZipfResident,
    /// Zipf 0.99, room for a tenth: get or insert, 5 % overwrites.
    #[value(name = "mixed_95_5")]
    Mixed95,
    /// The same with 20 % overwrites.
    #[value(name = "mixed_80_20")]
    Mixed80,
    /// A reader that refills, beside a thread that removes.
    Storm,
    /// One hot key, a number, read without cloning.
    HotBorrowU64,
    /// The same, cloned.
    HotCloneU64,
    /// As zipf_resident, with numbers as keys.
    ZipfResidentU64,
    /// One hot key, text, borrowed: what expiry and bounds on staleness add to a hit of Weft.
    TtlCost,
    /// Memory beyond key and value.
    BytesPerEntry,
    /// Hit ratios on traces; needs --traces.
    HitRatio,
}

impl Part {
    /// Its name in output.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HotBorrow => "hot_borrow",
            Self::HotClone => "hot_clone",
            Self::ZipfResident => "zipf_resident",
            Self::Mixed95 => "mixed_95_5",
            Self::Mixed80 => "mixed_80_20",
            Self::Storm => "storm",
            Self::HotBorrowU64 => "hot_borrow_u64",
            Self::HotCloneU64 => "hot_clone_u64",
            Self::ZipfResidentU64 => "zipf_resident_u64",
            Self::TtlCost => "ttl_cost",
            Self::BytesPerEntry => "bytes_per_entry",
            Self::HitRatio => "hit_ratio",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::HotBorrow => "one hot key, text, borrowed",
            Self::HotClone => "one hot key, text, cloned",
            Self::ZipfResident => "Zipf 0.99, text, all resident, borrowed",
            Self::Mixed95 => "Zipf 0.99, text, room for 10 %, get or insert, 5 % overwrites",
            Self::Mixed80 => "Zipf 0.99, text, room for 10 %, get or insert, 20 % overwrites",
            Self::Storm => "a reader that refills beside removals, Zipf 0.99, text",
            Self::HotBorrowU64 => "one hot key, number, borrowed",
            Self::HotCloneU64 => "one hot key, number, cloned",
            Self::ZipfResidentU64 => "Zipf 0.99, numbers, all resident, borrowed",
            Self::TtlCost => "one hot key, text, borrowed, with checks on a hit",
            Self::BytesPerEntry => "bytes per entry beyond key and value (numbers)",
            Self::HitRatio => "hit ratio, per cent",
        }
    }
}
