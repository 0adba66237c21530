//! What each output frame is, from the report's frame map, and where the made frames lie.

use crate::report::{Run, Section};

/// Where an output frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From the source.
    Real,
    /// From the network.
    Synthesised,
    /// A real frame shown again.
    Held,
}

/// Two neighbouring real frames with made ones between them, by number in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The real frame before.
    pub first: u64,
    /// The real frame after.
    pub last: u64,
}

/// The kind of every frame, in order.
pub fn kinds(map: &[Section]) -> impl Iterator<Item = Kind> {
    let runs = map.iter().flat_map(|section| (0..section.repeat).flat_map(|_| &section.runs));
    runs.flat_map(|run: &Run| {
        let kind = match run.kind.as_str() {
            "real" => Kind::Real,
            "synthesised" => Kind::Synthesised,
            _ => Kind::Held,
        };
        (0..run.count).map(move |_| kind)
    })
}

/// `count` gaps, spread evenly over the clip; fewer where there are fewer.
#[must_use]
pub fn spread_gaps(map: &[Section], count: usize) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut last_real: Option<u64> = None;
    for (number, kind) in (0..).zip(kinds(map)) {
        match kind {
            Kind::Real => {
                let made = |first: &u64| number - first > 1;
                gaps.extend(last_real.filter(made).map(|first| Gap { first, last: number }));
                last_real = Some(number);
            }
            Kind::Synthesised => {}
            Kind::Held => last_real = None,
        }
    }
    let wanted = count.min(gaps.len());
    (0..wanted).map(|k| gaps[gaps.len() * (2 * k + 1) / (2 * wanted)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: &str, count: u64) -> Section {
        let run = Run { kind: kind.into(), count, ..Run::default() };
        Section { runs: vec![run], repeat: 1, ..Section::default() }
    }

    #[test]
    fn gaps_hold_made_frames_between_two_real_ones_and_no_held_one() {
        let map = [
            run("real", 2),
            run("synthesised", 3),
            run("real", 1),
            run("held", 3),
            run("real", 1),
            run("synthesised", 3),
            run("real", 1),
        ];
        let gaps = spread_gaps(&map, 5);
        assert_eq!(gaps, [Gap { first: 1, last: 5 }, Gap { first: 9, last: 13 }]);
        assert_eq!(spread_gaps(&map, 1), [Gap { first: 9, last: 13 }]);
        assert_eq!(spread_gaps(&[run("real", 4)], 3), []);
        let once = [run("real", 1), run("synthesised", 1)].map(|it| it.runs).concat();
        let again = [Section { runs: once, repeat: 3, ..Section::default() }];
        assert_eq!(spread_gaps(&again, 5), [Gap { first: 0, last: 2 }, Gap { first: 2, last: 4 }]);
    }
}
