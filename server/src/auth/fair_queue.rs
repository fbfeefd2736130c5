//! A queue in which no client address, and no user name at one address, can take the turns of
//! others.
//!
//! This module must not know what waits. Start reading at [`FairQueue`].

use std::collections::VecDeque;

use crate::client_address::ClientAddress;

/// Where a login comes from. The logins of one address take turns by user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoginSource {
    /// The address of the client.
    pub(super) address: ClientAddress,
    /// A hash of the name of the user.
    pub(super) user: u64,
}

/// Waiting items. Addresses take turns, and at each address the users do.
pub(super) struct FairQueue<T> {
    /// The addresses with waiting items, in the order of their turns.
    addresses: VecDeque<AddressQueue<T>>,
}

struct AddressQueue<T> {
    address: ClientAddress,
    /// The users with waiting items, in the order of their turns.
    users: VecDeque<UserQueue<T>>,
}

struct UserQueue<T> {
    user: u64,
    items: VecDeque<T>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            addresses: VecDeque::new(),
        }
    }
}

impl<T> AddressQueue<T> {
    fn len(&self) -> usize {
        self.users.iter().map(|user| user.items.len()).sum()
    }
}

impl<T> FairQueue<T> {
    /// Returns the number of waiting items.
    pub(super) fn len(&self) -> usize {
        self.addresses.iter().map(AddressQueue::len).sum()
    }

    /// Adds an item.
    pub(super) fn push(&mut self, source: LoginSource, item: T) {
        let LoginSource { address, user } = source;
        let queues = &mut self.addresses;
        let at = match queues.iter().position(|queue| queue.address == address) {
            Some(at) => at,
            None => {
                let users = VecDeque::new();
                queues.push_back(AddressQueue { address, users });
                queues.len() - 1
            }
        };
        let queues = &mut queues[at].users;
        match queues.iter_mut().find(|queue| queue.user == user) {
            Some(queue) => queue.items.push_back(item),
            None => queues.push_back(UserQueue {
                user,
                items: VecDeque::from([item]),
            }),
        }
    }

    /// Removes the item whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let mut address = self.addresses.pop_front()?;
        let item = address.users.pop_front().and_then(|mut user| {
            let item = user.items.pop_front();
            if !user.items.is_empty() {
                address.users.push_back(user);
            }
            item
        });
        if !address.users.is_empty() {
            self.addresses.push_back(address);
        }
        item
    }

    /// Removes the latest item of the user with the most items at the address with the most items.
    /// If several have as many, the one that was added last loses.
    pub(super) fn drop_from_greediest(&mut self) -> Option<T> {
        let address = self.addresses.iter_mut().max_by_key(|queue| queue.len())?;
        let users = address.users.iter_mut();
        let item = users
            .max_by_key(|user| user.items.len())
            .and_then(|user| user.items.pop_back());
        self.remove_empty();
        item
    }

    /// Removes the items for which `is_kept` returns false.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        let users = self.addresses.iter_mut().flat_map(|queue| &mut queue.users);
        for user in users {
            user.items.retain(&mut is_kept);
        }
        self.remove_empty();
    }

    fn remove_empty(&mut self) {
        for address in &mut self.addresses {
            address.users.retain(|user| !user.items.is_empty());
        }
        self.addresses.retain(|address| !address.users.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn source(address: u8, user: u64) -> LoginSource {
        let address = ClientAddress::Ipv4(Ipv4Addr::new(192, 0, 2, address));
        LoginSource { address, user }
    }

    fn queue(items: &[(u8, u64, &'static str)]) -> FairQueue<&'static str> {
        let mut queue = FairQueue::default();
        for (address, user, item) in items {
            queue.push(source(*address, *user), *item);
        }
        queue
    }

    #[test]
    fn addresses_take_turns_and_so_do_the_users_of_an_address() {
        let mut queue = queue(&[
            (1, 1, "1a"),
            (1, 1, "1b"),
            (1, 2, "1c"),
            (2, 1, "2a"),
            (2, 1, "2b"),
        ]);
        assert_eq!(queue.len(), 5);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["1a", "2a", "1c", "2b", "1b"]);
        assert_eq!((queue.len(), queue.pop()), (0, None));
    }

    #[test]
    fn many_users_at_one_address_share_its_turns() {
        let mut queue = FairQueue::default();
        for user in 0..60 {
            queue.push(source(1, user), "flood");
        }
        queue.push(source(2, 1), "2a");
        queue.push(source(2, 1), "2b");
        assert_eq!(queue.drop_from_greediest(), Some("flood"));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).take(4).collect();
        assert_eq!(order, ["flood", "2a", "flood", "2b"]);
    }

    #[test]
    fn the_greediest_user_of_the_greediest_address_loses_the_latest_item() {
        let mut queue = queue(&[
            (1, 1, "1a"),
            (1, 2, "1b"),
            (1, 2, "1c"),
            (2, 1, "2a"),
            (2, 1, "2b"),
        ]);
        assert_eq!(queue.drop_from_greediest(), Some("1c"));
        queue.retain(|item| !item.starts_with('1'));
        assert_eq!(queue.drop_from_greediest(), Some("2b"));
        // Among equals the newest loses.
        queue.push(source(3, 1), "3a");
        assert_eq!(queue.drop_from_greediest(), Some("3a"));
        assert_eq!((queue.pop(), queue.len()), (Some("2a"), 0));
        assert_eq!(queue.drop_from_greediest(), None);
    }
}
