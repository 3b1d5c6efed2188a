//! Lists in statements, in few lengths.
//!
//! A database takes a statement apart once and keeps what came of it, for each text by
//! itself. With lists of any length there would be hundreds of texts, some of them
//! megabytes when taken apart.

/// Lengths of lists, the longest first. Each connection keeps a statement of each length.
const LENGTHS: [usize; 4] = [64, 16, 4, 1];

fn length(left: usize) -> usize {
    LENGTHS.into_iter().find(|length| *length <= left).unwrap_or(left)
}

/// Parts of a list, each as long as one of a few lengths.
pub(crate) fn batches<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let (batch, others) = rest.split_at_checked(length(rest.len()))?;
        rest = others;
        (!batch.is_empty()).then_some(batch)
    })
}

/// The same parts, to be changed.
pub(crate) fn batches_mut<T>(items: &mut [T]) -> impl Iterator<Item = &mut [T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let all = std::mem::take(&mut rest);
        let (batch, others) = all.split_at_mut_checked(length(all.len()))?;
        rest = others;
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_few_lengths_and_make_the_whole() {
        for count in [0, 1, 3, 4, 5, 64, 65, 100, 1_000] {
            let mut items: Vec<usize> = (0..count).collect();
            let parts: Vec<Vec<usize>> = batches(&items).map(<[_]>::to_vec).collect();
            assert!(parts.iter().all(|part| LENGTHS.contains(&part.len())), "{count}");
            assert_eq!(parts.concat(), items);
            let mut parts = parts.into_iter();
            for batch in batches_mut(&mut items) {
                assert_eq!(Some(batch.to_vec()), parts.next());
            }
            assert_eq!(parts.next(), None);
        }
    }
}
