//! A doubly linked list of slots inside one vector: constant time, no allocation.

/// No slot.
const NIL: u32 = u32::MAX;

/// Slots `0..slots`, each at most once, in the order they were pushed.
#[derive(Clone, Debug)]
pub(crate) struct IdleList {
    links: Vec<Links>,
    front: u32,
    back: u32,
    length: usize,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    previous: u32,
    next: u32,
    listed: bool,
}

impl IdleList {
    pub(crate) fn new(slots: u32) -> Self {
        let links = Links { previous: NIL, next: NIL, listed: false };
        IdleList { links: vec![links; slots as usize], front: NIL, back: NIL, length: 0 }
    }

    /// Makes room for slots `0..slots`.
    pub(crate) fn grow(&mut self, slots: u32) {
        self.links.resize(slots as usize, Links { previous: NIL, next: NIL, listed: false });
    }

    #[inline]
    pub(crate) fn push_back(&mut self, slot: u32) {
        debug_assert!(!self.contains(slot));
        self.links[slot as usize] = Links { previous: self.back, next: NIL, listed: true };
        match self.links.get_mut(self.back as usize) {
            Some(back) => back.next = slot,
            None => self.front = slot,
        }
        self.back = slot;
        self.length += 1;
    }

    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        debug_assert!(self.contains(slot));
        let Links { previous, next, .. } = self.links[slot as usize];
        match self.links.get_mut(previous as usize) {
            Some(links) => links.next = next,
            None => self.front = next,
        }
        match self.links.get_mut(next as usize) {
            Some(links) => links.previous = previous,
            None => self.back = previous,
        }
        self.links[slot as usize].listed = false;
        self.length -= 1;
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.links[slot as usize].listed
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The slot that has been listed longest.
    pub(crate) fn front(&self) -> Option<u32> {
        (self.front != NIL).then_some(self.front)
    }

    /// The slot that was listed last.
    pub(crate) fn back(&self) -> Option<u32> {
        (self.back != NIL).then_some(self.back)
    }

    /// From the front to the back.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.front(), |slot| {
            let next = self.links[*slot as usize].next;
            (next != NIL).then_some(next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_queue_one_may_leave(steps in proptest::collection::vec(0..20u32, 0..200)) {
            let (mut list, mut model) = (IdleList::new(20), Vec::new());
            for slot in steps {
                if list.contains(slot) {
                    list.remove(slot);
                    model.retain(|other| *other != slot);
                } else {
                    list.push_back(slot);
                    model.push(slot);
                }
                prop_assert_eq!(list.iter().collect::<Vec<_>>(), model.clone());
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!((list.front(), list.back()), (model.first().copied(), model.last().copied()));
            }
        }
    }
}
