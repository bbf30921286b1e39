//! How many hold each value, so that the least of all is at hand without a look at every holder.

use std::collections::BTreeMap;

/// Values and how many hold each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts<T>(BTreeMap<T, usize>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Copy> Counts<T> {
    /// One more holds this value.
    pub(super) fn add(&mut self, value: T) {
        *self.0.entry(value).or_insert(0) += 1;
    }

    /// One that held this value holds it no more.
    pub(super) fn remove(&mut self, value: T) {
        if let Some(count) = self.0.get_mut(&value) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&value);
            }
        }
    }

    /// The least value that anyone holds.
    pub(super) fn least(&self) -> Option<T> {
        self.0.first_key_value().map(|(&value, _)| value)
    }
}
