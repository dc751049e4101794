//! A set of bitmap pages, one bit each: small, ordered, and quick to look through.

/// A set of page numbers below a fixed count.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    /// An empty set for pages `0..pages`.
    pub(crate) fn new(pages: u32) -> Self {
        PageSet { words: vec![0; pages.div_ceil(64) as usize] }
    }

    /// Makes room for pages `0..pages`; pages beyond are dropped.
    pub(crate) fn resize(&mut self, pages: u32) {
        self.words.resize(pages.div_ceil(64) as usize, 0);
        if let (Some(last), rest @ 1..) = (self.words.last_mut(), pages % 64) {
            *last &= (1 << rest) - 1;
        }
    }

    #[inline]
    pub(crate) fn contains(&self, page: u32) -> bool {
        self.words[page as usize / 64] >> (page % 64) & 1 == 1
    }

    #[inline]
    pub(crate) fn insert(&mut self, page: u32) {
        self.words[page as usize / 64] |= 1 << (page % 64);
    }

    #[inline]
    pub(crate) fn remove(&mut self, page: u32) {
        self.words[page as usize / 64] &= !(1 << (page % 64));
    }

    pub(crate) fn clear(&mut self) {
        self.words.fill(0);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The first page of the set at or after `from`.
    #[inline]
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let mut index = from as usize / 64;
        let mut word = self.words.get(index)? & (u64::MAX << (from % 64));
        while word == 0 {
            index += 1;
            word = *self.words.get(index)?;
        }
        Some((index * 64) as u32 + word.trailing_zeros())
    }

    /// The pages, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let page = self.next(from)?;
            from = page + 1;
            Some(page)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set(pages in 1..300u32, steps in proptest::collection::vec((any::<bool>(), 0..300u32), 0..200)) {
            let (mut set, mut model) = (PageSet::new(pages), BTreeSet::new());
            for (insert, page) in steps {
                let page = page % pages;
                if insert { set.insert(page); model.insert(page); } else { set.remove(page); model.remove(&page); }
                prop_assert_eq!(set.contains(page), insert);
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.is_empty(), model.is_empty());
            set.resize(pages / 2 + 1);
            model.retain(|page| *page <= pages / 2);
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }
    }
}
