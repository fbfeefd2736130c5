//! A sorted list of names in little memory.
//!
//! Start reading at [`SortedNames`].

use std::collections::BTreeSet;
use std::ops::{Bound, Range};
use std::sync::Arc;

/// Names in byte order. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct SortedNames {
    names: Arc<NameTable>,
    /// Names that were added later.
    added: Arc<BTreeSet<Box<str>>>,
}

/// Names in one string, with the places of the names in their order.
#[derive(Default)]
struct NameTable {
    text: String,
    places: Vec<Range<u32>>,
}

/// Collects names in any order.
#[derive(Default)]
pub(super) struct NameCollector(NameTable);

impl NameCollector {
    /// Adds a name. Names beyond 4 GiB of text are left out; no folder has so many.
    pub(super) fn push(&mut self, name: &str) {
        let NameTable { text, places } = &mut self.0;
        let (start, end) = (text.len(), text.len() + name.len());
        if let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) {
            text.push_str(name);
            places.push(start..end);
        }
    }

    /// Sorts the names. `added` are names that may be among them already.
    pub(super) fn sort(self, added: BTreeSet<Box<str>>) -> SortedNames {
        let NameTable {
            mut text,
            mut places,
        } = self.0;
        places.sort_unstable_by(|a, b| slice(&text, a).cmp(slice(&text, b)));
        text.shrink_to_fit();
        places.shrink_to_fit();
        SortedNames {
            names: Arc::new(NameTable { text, places }),
            added: Arc::new(added),
        }
    }
}

impl SortedNames {
    /// Adds a name, unless it is there.
    pub(super) fn add(&mut self, name: &str) {
        Arc::make_mut(&mut self.added).insert(name.into());
    }

    /// Returns about how many bytes of memory the names take.
    pub(super) fn memory_bytes(&self) -> usize {
        const BYTES_PER_ADDED_NAME: usize = 64;
        let NameTable { text, places } = &*self.names;
        text.len()
            + places.len() * size_of::<Range<u32>>()
            + self.added.len() * BYTES_PER_ADDED_NAME
    }

    /// Returns how many names there are, at least, and the length of their text in bytes.
    pub(super) fn count_and_bytes(&self) -> (usize, usize) {
        let added: usize = self.added.iter().map(|name| name.len()).sum();
        (
            self.names.places.len() + self.added.len(),
            self.names.text.len() + added,
        )
    }

    /// Iterates over the names from a bound.
    pub(super) fn from(&self, bound: Bound<&str>) -> impl Iterator<Item = &str> {
        let NameTable { text, places } = &*self.names;
        let is_before = |place: &Range<u32>| match bound {
            Bound::Included(bound) => slice(text, place) < bound,
            Bound::Excluded(bound) => slice(text, place) <= bound,
            Bound::Unbounded => false,
        };
        let first = places.partition_point(is_before);
        let mut names = places[first..]
            .iter()
            .map(|place| slice(text, place))
            .peekable();
        let added = self.added.range::<str, _>((bound, Bound::Unbounded));
        let mut added = added.map(|name| &**name).peekable();
        std::iter::from_fn(move || match (names.peek(), added.peek()) {
            (Some(name), Some(other)) if name == other => {
                added.next();
                names.next()
            }
            (Some(name), Some(other)) if name > other => added.next(),
            (Some(_), _) => names.next(),
            (None, _) => added.next(),
        })
    }
}

fn slice<'a>(text: &'a str, place: &Range<u32>) -> &'a str {
    &text[place.start as usize..place.end as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_added_ones_among_them() {
        let mut names = NameCollector::default();
        ["c", "a", "b/", "b"]
            .iter()
            .for_each(|name| names.push(name));
        let mut names = names.sort(BTreeSet::from(["a".into(), "aa".into()]));
        names.add("d");
        names.add("b");
        let from = |bound| names.from(bound).collect::<Vec<_>>().join(" ");
        assert_eq!(from(Bound::Unbounded), "a aa b b/ c d");
        assert_eq!(from(Bound::Excluded("aa")), "b b/ c d");
        assert_eq!(from(Bound::Included("b/")), "b/ c d");
        assert_eq!(from(Bound::Excluded("d")), "");
    }
}
