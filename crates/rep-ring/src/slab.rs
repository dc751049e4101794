//! A slab whose keys are checked by generation: a completion that comes late never reaches another operation.
//!
//! Invariants: a key is valid from `insert` to `remove`; a removed key never becomes valid again (generations wrap
//! after 2^31 uses of one place). Nothing is allocated once the slab has grown to its working size.

/// Names an entry. Fits a completion's `user_data`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key(u64);

impl Key {
    fn new(index: u32, generation: u32) -> Self {
        Key(u64::from(generation) << 32 | u64::from(index))
    }

    fn index(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The key as `user_data`.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The key of a `user_data`. It may be one that is no longer valid.
    pub fn from_bits(bits: u64) -> Self {
        Key(bits)
    }
}

#[derive(Debug)]
enum Place<T> {
    Used(T),
    Free { next: Option<u32> },
}

/// The slab.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<(u32, Place<T>)>,
    free: Option<u32>,
    count: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { places: Vec::new(), free: None, count: 0 }
    }
}

impl<T> Slab<T> {
    /// An empty slab.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a value in and names it.
    pub fn insert(&mut self, value: T) -> Key {
        self.count += 1;
        let Some(index) = self.free else {
            let index = u32::try_from(self.places.len()).unwrap_or_else(|_| unreachable!("2^32 entries"));
            self.places.push((0, Place::Used(value)));
            return Key::new(index, 0);
        };
        let (generation, place) = &mut self.places[index as usize];
        if let Place::Free { next } = *place {
            self.free = next;
        }
        *place = Place::Used(value);
        Key::new(index, *generation)
    }

    /// The value, if the key is still valid.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.places.get(key.index()) {
            Some((generation, Place::Used(value))) if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// The value, if the key is still valid.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.places.get_mut(key.index()) {
            Some((generation, Place::Used(value))) if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// Takes the value out; the key becomes invalid.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let (generation, place) = &mut self.places[key.index()];
        *generation = generation.wrapping_add(1) & (u32::MAX >> 1);
        let Place::Used(value) = std::mem::replace(place, Place::Free { next: self.free }) else { return None };
        self.free = Some(key.index() as u32);
        self.count -= 1;
        Some(value)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, (generation, place))| match place {
            Place::Used(value) => Some((Key::new(index as u32, *generation), value)),
            Place::Free { .. } => None,
        })
    }

    /// Every entry.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.places.iter_mut().enumerate().filter_map(|(index, (generation, place))| match place {
            Place::Used(value) => Some((Key::new(index as u32, *generation), value)),
            Place::Free { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_stays_invalid_when_its_place_is_used_again() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(first.index(), second.index());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(Key::from_bits(second.to_bits())), Some(&'b'));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn iteration_skips_free_places() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..4).map(|n| slab.insert(n)).collect();
        slab.remove(keys[1]);
        slab.remove(keys[2]);
        assert_eq!(slab.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [0, 3]);
        slab.insert(7);
        assert_eq!(slab.places.len(), 4);
    }
}
