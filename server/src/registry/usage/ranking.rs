//! Finds the largest repositories among many.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use imgsync_oci::Repository;

/// The largest repositories so far.
pub(super) struct Ranking {
    limit: usize,
    /// The smallest one is on top. Those of the same size are in the order of their names.
    largest: BinaryHeap<Reverse<(u64, Reverse<Repository>)>>,
}

impl Ranking {
    /// Creates a ranking that keeps at most `limit` repositories.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            largest: BinaryHeap::new(),
        }
    }

    /// Adds a repository of a size in bytes.
    pub(super) fn add(&mut self, bytes: u64, repository: &Repository) {
        self.largest
            .push(Reverse((bytes, Reverse(repository.clone()))));
        if self.largest.len() > self.limit {
            self.largest.pop();
        }
    }

    /// Returns the sizes in bytes and the repositories, the largest first.
    pub(super) fn into_sorted(self) -> Vec<(u64, Repository)> {
        let sorted = self.largest.into_sorted_vec().into_iter();
        sorted
            .map(|Reverse((bytes, Reverse(repository)))| (bytes, repository))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_kept_in_order() {
        let mut ranking = Ranking::new(3);
        for (bytes, name) in [(1, "a"), (5, "c"), (5, "b"), (0, "d"), (9, "e")] {
            ranking.add(bytes, &name.parse().unwrap());
        }
        let names: Vec<String> = ranking
            .into_sorted()
            .into_iter()
            .map(|(bytes, repository)| format!("{repository} {bytes}"))
            .collect();
        assert_eq!(names, ["e 9", "b 5", "c 5"]);
    }
}
