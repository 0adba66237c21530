//! In which order the blocks of a network work, and how much smaller than the picture that is on which they do.
//!
//! RIFE lets each block work once, coarse to fine. A block adds to the flows that it is given, so it can work again, and on
//! pictures of another size; a file may ask for it in its metadata ([`KEY`]). The starter weights do: their middle blocks work
//! on pictures of half the size, and the third of them again where it did before (models/README.md says what that is worth).

use std::str::FromStr;

use crate::models::ModelError;
use crate::models::weights::Weights;
use crate::ops::flow::MaskRule;

/// Metadata key: blocks in their order, each with its factor, as `0:16,1:8,2:4,3:2,4:1`.
pub const KEY: &str = "slomod.pyramid";

/// Most visits of a file's own order.
const VISITS_MAX: usize = 16;
/// Most different factors of all but the last visit: a GPU reads so many outputs at once.
const FACTORS_MAX: usize = 4;
/// Largest factor of a file's own order.
const FACTOR_MAX: f32 = 32.0;

/// A block at work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Visit {
    /// Which.
    pub block: usize,
    /// Picture pixels for each pixel of the block, at scale 1: a power of two.
    pub factor: f32,
}

/// Each block once.
#[must_use]
pub fn once(factors: &[f32]) -> Vec<Visit> {
    factors.iter().enumerate().map(|(block, &factor)| Visit { block, factor }).collect()
}

/// Sides are padded to a multiple of this at scale 1: the coarsest visit halves its pictures twice more.
#[must_use]
pub fn pad_multiple(visits: &[Visit]) -> usize {
    4 * visits.iter().fold(1.0, |most: f32, it| most.max(it.factor)) as usize
}

/// The order that a file of `blocks` blocks asks for, where it does.
///
/// # Errors
/// [`ModelError::Invalid`] where the order is none ([`parse`]), or the masks of several blocks are summed.
pub fn of_file(
    weights: &Weights,
    blocks: usize,
    mask: MaskRule,
) -> Result<Option<Vec<Visit>>, ModelError> {
    let Some(text) = weights.metadata(KEY) else { return Ok(None) };
    let visits = match mask {
        MaskRule::Last => parse(text, blocks),
        MaskRule::Sum => Err("is there, expected only from v4.7 on".to_owned()),
    };
    visits.map(Some).map_err(|why| weights.invalid(format!("metadata `{KEY}` {why}")))
}

/// The order in `text`: the first block first and the last one last, at full size, and neither
/// elsewhere; all of the others between them.
///
/// # Errors
/// What of it cannot be done, in words that follow the name of the key.
pub fn parse(text: &str, blocks: usize) -> Result<Vec<Visit>, String> {
    let visit = |part: &str| {
        let (block, factor) = part.trim().split_once(':')?;
        let (block, factor) = (block.parse().ok()?, u32::from_str(factor).ok()? as f32);
        let known = block < blocks && factor.log2().fract() == 0.0 && factor <= FACTOR_MAX;
        known.then_some(Visit { block, factor })
    };
    let read = |part| {
        visit(part).ok_or_else(|| {
            format!(
                "holds `{part}`, expected a block from 0 to {} and a factor of 1, 2, 4, 8, 16 or 32, as 1:8",
                blocks - 1
            )
        })
    };
    let visits = text.split(',').map(read).collect::<Result<Vec<_>, _>>()?;
    let [first, between @ .., last] = visits.as_slice() else {
        return Err(format!("is `{text}`, expected all {blocks} blocks"));
    };
    let inner = 1..blocks - 1;
    if first.block != 0
        || *last != (Visit { block: blocks - 1, factor: 1.0 })
        || between.iter().any(|it| !inner.contains(&it.block))
        || !inner.clone().all(|block| between.iter().any(|it| it.block == block))
    {
        return Err(format!(
            "is `{text}`, expected block 0 first, block {} last with factor 1, and all of the others between them",
            blocks - 1
        ));
    }
    let mut factors: Vec<_> = visits[..visits.len() - 1].iter().map(|it| it.factor).collect();
    factors.sort_by(f32::total_cmp);
    factors.dedup();
    if visits.len() > VISITS_MAX || factors.len() > FACTORS_MAX || factors[0] == 1.0 {
        return Err(format!(
            "is `{text}`, expected at most {VISITS_MAX} visits, {FACTORS_MAX} factors before the last, and 1 for that alone"
        ));
    }
    Ok(visits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_and_padded_for() {
        let visits = parse("0:16,1:16,2:8,3:4,1:16, 2:8,3:4,3:2,4:1", 5).unwrap();
        let found: Vec<_> = visits.iter().map(|it| (it.block, it.factor as usize)).collect();
        let again = [(1, 16), (2, 8), (3, 4)];
        assert_eq!(found, [&[(0, 16)][..], &again, &again, &[(3, 2), (4, 1)]].concat());
        assert_eq!(pad_multiple(&visits), 64);
        assert_eq!(parse("0:16,1:8,2:4,3:2,4:1", 5).unwrap(), once(&[16.0, 8.0, 4.0, 2.0, 1.0]));
        assert_eq!(pad_multiple(&parse("0:8,1:32,2:2,3:1", 4).unwrap()), 128);
    }

    #[test]
    fn an_order_that_no_network_can_follow_is_refused() {
        for (text, why) in [
            ("", "holds ``"),
            ("0:16;1:8", "holds `0:16;1:8`"),
            ("0:16,1:8,2:4,3:2,5:1", "holds `5:1`"),
            ("0:16,1:8,2:4,-3:2,4:1", "holds `-3:2`"),
            ("0:16,1:6,2:4,3:2,4:1", "holds `1:6`"),
            ("0:16,1:0,2:4,3:2,4:1", "holds `1:0`"),
            ("0:16,1:0.5,2:4,3:2,4:1", "holds `1:0.5`"),
            ("0:64,1:8,2:4,3:2,4:1", "holds `0:64`"),
            ("4:1", "expected all 5 blocks"),
            ("1:8,0:16,2:4,3:2,4:1", "block 0 first"),
            ("0:16,1:8,2:4,3:2,4:2", "block 4 last with factor 1"),
            ("0:16,1:8,2:4,4:1", "all of the others"),
            ("0:16,1:8,0:8,2:4,3:2,4:1", "all of the others"),
            ("0:16,1:8,2:4,3:2,4:2,4:1", "all of the others"),
            ("0:16,1:8,2:4,3:1,4:1", "1 for that alone"),
            ("0:32,1:16,1:8,2:4,3:2,4:1", "4 factors"),
        ] {
            let found = parse(text, 5).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
        let long = format!("0:16,{}1:8,2:4,3:2,4:1", "1:16,".repeat(12));
        assert!(parse(&long, 5).unwrap_err().contains("at most 16 visits"));
    }
}
