//! A list that allocates only when it grows past a handful of entries, because nearly every update is small.

use std::ops::Deref;
use std::ops::DerefMut;

#[derive(Debug, Clone)]
pub(super) enum Few<T, const N: usize> {
    Inline([T; N], usize),
    Heap(Vec<T>),
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self::Inline([T::default(); N], 0)
    }
}

impl<T: Copy + Default, const N: usize> Few<T, N> {
    #[inline]
    pub(super) fn push(&mut self, value: T) {
        match self {
            Self::Inline(values, length) if *length < N => {
                values[*length] = value;
                *length += 1;
            }
            Self::Inline(values, _) => {
                let mut grown = Vec::with_capacity(4 * N);
                grown.extend_from_slice(values);
                grown.push(value);
                *self = Self::Heap(grown);
            }
            Self::Heap(values) => values.push(value),
        }
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Self::Inline(values, length) => &values[..*length],
            Self::Heap(values) => values,
        }
    }
}

impl<T, const N: usize> DerefMut for Few<T, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Inline(values, length) => &mut values[..*length],
            Self::Heap(values) => values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_there_on_both_sides_of_the_border() {
        let mut few = Few::<u32, 3>::default();
        for value in 0..10 {
            few.push(value);
            assert_eq!(*few, (0..=value).collect::<Vec<_>>());
        }
    }
}
