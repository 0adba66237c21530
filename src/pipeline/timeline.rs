//! Which output frame is where in time: exact rationals, no frame counted twice, no drift over any length.

use num_rational::Ratio;

use crate::frame::Seconds;
use crate::pipeline::plan::{Plan, Sampling};

/// A grid point this close to a real frame shows the real frame (containers such as Matroska round to 1 ms).
const SNAP: Ratio<i128> = Ratio::new_raw(1, 1000);
/// But never more than this part of the gap, nor half a step of the grid: a real frame is shown once.
const SNAP_PART: Ratio<i128> = Ratio::new_raw(1, 20);

/// A source frame as the timeline sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the frame.
    pub index: u64,
    /// Its time in the source.
    pub pts: Seconds,
}

/// Whether anything may be made between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// The network may.
    Open,
    /// A cut, or the same picture twice: the earlier frame is held instead.
    Barred,
}

/// What an output frame shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown {
    /// That source frame.
    Real(u64),
    /// Made by the network between two neighbours, at `timestep` in 0..1.
    Between {
        /// Index of the earlier frame; the later is the next one.
        first: u64,
        /// 0 is the earlier frame.
        timestep: f32,
    },
    /// Made in place of a repeated picture, between the real ones around it.
    Instead {
        /// Index of the earlier real frame; the later is the next that is not repeated.
        first: u64,
        /// 0 is the earlier frame.
        timestep: f32,
    },
    /// That source frame, shown longer.
    Held(u64),
}

/// An output frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instant {
    /// What it shows.
    pub shown: Shown,
    /// When, in output time from 0.
    pub pts: Seconds,
    /// How long.
    pub duration: Seconds,
}

/// Lays out the output, gap by gap.
#[derive(Clone, Debug)]
pub struct Timeline {
    plan: Plan,
    origin: Seconds,
    /// Next grid point, for `Sampling::Grid`.
    next: i128,
}

impl Timeline {
    /// `origin` is the time of the first source frame; it becomes 0.
    #[must_use]
    pub fn new(plan: Plan, origin: Seconds) -> Self {
        Self { plan, origin, next: 0 }
    }

    /// Output frames on the grid so far; 0 where there is none.
    #[must_use]
    pub fn on_grid(&self) -> i128 {
        self.next
    }

    /// Goes on where another timeline of the same clip and plan was when its [`Self::on_grid`] was `on_grid`.
    pub fn go_on(&mut self, on_grid: i128) {
        self.next = on_grid;
    }

    /// The output frames from `first` (included) to `second` (excluded), in order.
    pub fn gap(&mut self, first: Stamp, second: Stamp, passage: Passage) -> Vec<Instant> {
        assert!(first.pts < second.pts, "frames come in order of time");
        self.span(first, second.pts, Some(second), passage)
    }

    /// [`Self::gap`] over repeated pictures that are replaced: output times are as if they were there, and what is made lies
    /// between `first` and `second`.
    pub fn gap_over(&mut self, first: Stamp, repaired: &[Stamp], second: Stamp) -> Vec<Instant> {
        let whole = second.pts - first.pts;
        let part = |pts: Seconds| part(pts - first.pts, whole);
        let ends = repaired.iter().copied().chain([second]);
        let mut instants = Vec::new();
        let mut from = first;
        for to in ends {
            for mut instant in self.gap(from, to, Passage::Open) {
                let at = match instant.shown {
                    Shown::Between { .. } | Shown::Held(_) | Shown::Instead { .. } => {
                        self.origin + instant.pts / self.plan.stretch
                    }
                    Shown::Real(index) if index == from.index => from.pts,
                    Shown::Real(_) => to.pts,
                };
                let timestep = timestep(part(at));
                instant.shown = match instant.shown {
                    Shown::Real(index) if index == first.index || index == second.index => {
                        Shown::Real(index)
                    }
                    Shown::Real(_) => Shown::Instead { first: first.index, timestep },
                    _ => Shown::Between { first: first.index, timestep },
                };
                instants.push(instant);
            }
            from = to;
        }
        instants
    }

    /// The output frames of the last source frame, which is shown for `duration`.
    pub fn tail(&mut self, last: Stamp, duration: Seconds) -> Vec<Instant> {
        self.span(last, last.pts + duration, None, Passage::Barred)
    }

    fn span(
        &mut self,
        first: Stamp,
        end: Seconds,
        second: Option<Stamp>,
        passage: Passage,
    ) -> Vec<Instant> {
        match self.plan.sampling {
            Sampling::Steps(steps) => self.steps(first, end, passage, steps),
            Sampling::Grid(rate) => self.grid(first, end, second, passage, rate),
        }
    }

    fn steps(&self, first: Stamp, end: Seconds, passage: Passage, steps: u32) -> Vec<Instant> {
        let step = (end - first.pts) / i128::from(steps);
        let instant = |k: u32| Instant {
            shown: shown(first, Ratio::new(i128::from(k), i128::from(steps)), passage),
            pts: (first.pts + step * i128::from(k) - self.origin) * self.plan.stretch,
            duration: step * self.plan.stretch,
        };
        (0..steps).map(instant).collect()
    }

    fn grid(
        &mut self,
        first: Stamp,
        end: Seconds,
        second: Option<Stamp>,
        passage: Passage,
        rate: Seconds,
    ) -> Vec<Instant> {
        let length = end - first.pts;
        let half_step = (rate * self.plan.stretch * 2).recip();
        let snap = SNAP.min(length * SNAP_PART).min(half_step);
        let mut instants = Vec::new();
        loop {
            let pts = Ratio::from_integer(self.next) / rate;
            let offset = self.origin + pts / self.plan.stretch - first.pts;
            if offset >= length {
                return instants;
            }
            let shown = match second {
                _ if offset <= snap => Shown::Real(first.index),
                // Not as near as half a step: then the next point is as near, and shows it.
                Some(second) if length - offset <= snap && length - offset < half_step => {
                    Shown::Real(second.index)
                }
                _ => shown(first, part(offset, length), passage),
            };
            instants.push(Instant { shown, pts, duration: rate.recip() });
            self.next += 1;
        }
    }
}

fn shown(first: Stamp, part: Ratio<i128>, passage: Passage) -> Shown {
    if part == Ratio::from_integer(0) {
        return Shown::Real(first.index);
    }
    match passage {
        Passage::Barred => Shown::Held(first.index),
        Passage::Open => Shown::Between { first: first.index, timestep: timestep(part) },
    }
}

/// `offset / length`. Rates, speeds and clocks with many digits have quotients that exceed 128 bits: these are exact to f32.
fn part(offset: Seconds, length: Seconds) -> Ratio<i128> {
    let fits = bits(offset) + bits(length) <= 126;
    if fits { offset / length } else { coarse(offset, 60) / coarse(length, 60) }
}

/// Exact to f32; parts are in 0..1 and their terms may exceed f64.
fn timestep(part: Ratio<i128>) -> f32 {
    const UNIT: i128 = 1 << 40;
    ((coarse(part, 86) * UNIT).round().to_integer() as f64 / UNIT as f64) as f32
}

/// How many bits the longer of both terms has.
fn bits(value: Ratio<i128>) -> u32 {
    let longer = value.numer().unsigned_abs().max(value.denom().unsigned_abs());
    u128::BITS - longer.leading_zeros()
}

/// The nearest below, roughly, whose terms have no more than so many bits.
fn coarse(value: Ratio<i128>, bits_max: u32) -> Ratio<i128> {
    match bits(value).saturating_sub(bits_max) {
        0 => value,
        shift => Ratio::new(value.numer() >> shift, (value.denom() >> shift).max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lay_out(plan: Plan, times: &[Seconds], last: Seconds, barred: &[u64]) -> Vec<Instant> {
        let stamp = |i: usize| Stamp { index: i as u64, pts: times[i] };
        let mut timeline = Timeline::new(plan, times[0]);
        let mut all = Vec::new();
        for i in 0..times.len() - 1 {
            let passage =
                if barred.contains(&(i as u64)) { Passage::Barred } else { Passage::Open };
            all.extend(timeline.gap(stamp(i), stamp(i + 1), passage));
        }
        all.extend(timeline.tail(stamp(times.len() - 1), last));
        all
    }

    fn constant(rate: Seconds, count: i128, start: Seconds) -> Vec<Seconds> {
        (0..count).map(|i| start + Ratio::from_integer(i) / rate).collect()
    }

    fn steps(stretch: i128, factor: u32, rate: Seconds) -> Plan {
        Plan { stretch: Ratio::from_integer(stretch), rate, sampling: Sampling::Steps(factor) }
    }

    fn contiguous(instants: &[Instant]) {
        let mut expected = Ratio::from_integer(0);
        for instant in instants {
            assert_eq!(instant.pts, expected);
            expected += instant.duration;
        }
    }

    /// V01.
    #[test]
    fn constant_rate_gives_exact_counts_for_every_factor() {
        let rate = Ratio::new(30000, 1001);
        for factor in 2..=16_u32 {
            let plan = steps(factor.into(), factor, rate);
            let instants = lay_out(plan, &constant(rate, 90, Ratio::new(7, 5)), rate.recip(), &[]);
            contiguous(&instants);
            assert_eq!(instants.len(), 90 * factor as usize);
            let count =
                |want: fn(&Shown) -> bool| instants.iter().filter(|it| want(&it.shown)).count();
            assert_eq!(count(|it| matches!(it, Shown::Real(_))), 90);
            assert_eq!(count(|it| matches!(it, Shown::Between { .. })), 89 * (factor as usize - 1));
            assert_eq!(count(|it| matches!(it, Shown::Held(89))), factor as usize - 1);
            let end = instants.last().map(|it| it.pts + it.duration).unwrap();
            assert_eq!(end, Ratio::from_integer(90 * i128::from(factor)) / rate);
        }
    }

    #[test]
    fn two_hours_of_23_976_end_on_the_frame() {
        let rate = Ratio::new(24000, 1001);
        let instants = lay_out(
            steps(1, 2, rate * 2),
            &constant(rate, 172_627, Ratio::new(0, 1)),
            rate.recip(),
            &[],
        );
        assert_eq!(instants.len(), 345_254);
        let end = instants.last().map(|it| it.pts + it.duration).unwrap();
        assert_eq!(end, Ratio::from_integer(172_627) / rate);
    }

    #[test]
    fn grids_of_unlike_rates_cover_the_source_exactly() {
        for (from, to) in [
            ((25, 1), (60, 1)),
            ((30, 1), (49, 2)),
            ((2889, 100), (60, 1)),
            ((24000, 1001), (60, 1)),
        ] {
            let (from, to) = (Ratio::new(from.0, from.1), Ratio::new(to.0, to.1));
            let plan =
                Plan { stretch: Ratio::from_integer(1), rate: to, sampling: Sampling::Grid(to) };
            let instants =
                lay_out(plan, &constant(from, 250, Ratio::new(22, 15)), from.recip(), &[]);
            contiguous(&instants);
            let length = Ratio::from_integer(250) / from;
            let end = Ratio::from_integer(instants.len() as i128) / to;
            assert!(
                end >= length && end - length < to.recip(),
                "{from} to {to}: {end} against {length}"
            );
        }
    }

    #[test]
    fn grid_times_are_true_times_between_neighbours() {
        let to = Ratio::from_integer(60);
        let plan = Plan { stretch: Ratio::from_integer(1), rate: to, sampling: Sampling::Grid(to) };
        let instants = lay_out(
            plan,
            &constant(Ratio::from_integer(25), 6, Ratio::new(0, 1)),
            Ratio::new(1, 25),
            &[],
        );
        assert_eq!(instants[0].shown, Shown::Real(0));
        assert_eq!(instants[12].shown, Shown::Real(5), "60 and 25 meet every fifth of a second");
        for (k, instant) in instants.iter().enumerate() {
            if let Shown::Between { first, timestep } = instant.shown {
                let time = (first as f64 + f64::from(timestep)) / 25.0;
                assert!((time - k as f64 / 60.0).abs() < 1e-7, "{k}: {time}");
            }
        }
    }

    /// V04.
    #[test]
    fn variable_gaps_are_followed() {
        let times = [0, 33, 67, 200, 233].map(|ms| Ratio::new(ms, 1000));
        let instants =
            lay_out(steps(4, 4, Ratio::from_integer(30)), &times, Ratio::new(33, 1000), &[]);
        contiguous(&instants);
        assert_eq!(
            instants[8].pts,
            Ratio::new(67 * 4, 1000),
            "frame 2 is shown at four times its time"
        );
        assert_eq!(instants[8].duration, Ratio::new(133, 1000), "and its gap is divided evenly");
    }

    #[test]
    fn nothing_is_made_across_a_barrier() {
        let times = constant(Ratio::from_integer(30), 4, Ratio::new(0, 1));
        let instants =
            lay_out(steps(4, 4, Ratio::from_integer(30)), &times, Ratio::new(1, 30), &[1]);
        for instant in &instants[5..8] {
            assert_eq!(instant.shown, Shown::Held(1));
        }
        assert!(matches!(instants[9].shown, Shown::Between { first: 2, .. }));
    }

    /// V09.
    #[test]
    fn repeated_pictures_are_replaced_at_their_own_times() {
        let times = constant(Ratio::from_integer(30), 4, Ratio::new(1, 3));
        let stamp = |i: usize| Stamp { index: i as u64, pts: times[i] };
        let sixty = Ratio::from_integer(60);
        let grid =
            Plan { stretch: Ratio::from_integer(1), rate: sixty, sampling: Sampling::Grid(sixty) };
        for plan in [steps(2, 2, Ratio::from_integer(30)), grid] {
            let mut plain = Timeline::new(plan, times[0]);
            let expected: Vec<_> = (0..3)
                .flat_map(|i| plain.gap(stamp(i), stamp(i + 1), Passage::Open))
                .map(|it| (it.pts, it.duration))
                .collect();
            let mut timeline = Timeline::new(plan, times[0]);
            let instants = timeline.gap_over(stamp(0), &[stamp(1), stamp(2)], stamp(3));
            let found: Vec<_> = instants.iter().map(|it| (it.pts, it.duration)).collect();
            assert_eq!(found, expected);
            let sixth = |k: i128| timestep(Ratio::new(k, 6));
            let between = |k| Shown::Between { first: 0, timestep: sixth(k) };
            let instead = |k| Shown::Instead { first: 0, timestep: sixth(k) };
            let shown: Vec<_> = instants.iter().map(|it| it.shown).collect();
            assert_eq!(
                shown,
                [Shown::Real(0), between(1), instead(2), between(3), instead(4), between(5)]
            );
        }
    }

    #[test]
    fn a_fine_grid_shows_each_real_frame_once() {
        for (from, to, stretch) in [
            ((30, 1), (120, 1), (16, 1)),
            ((30_000, 1001), (60, 1), (16, 1)),
            ((30, 1), (320, 1), (16, 1)),
            ((25, 1), (119_880, 1000), (7, 1)),
        ] {
            let ratio = |it: (i128, i128)| Ratio::new(it.0, it.1);
            let (from, rate, stretch) = (ratio(from), ratio(to), ratio(stretch));
            let plan = Plan { stretch, rate, sampling: Sampling::Grid(rate) };
            // As a container that counts milliseconds has them.
            let rounded = |it: &Seconds| Ratio::new((it * 1000).round().to_integer(), 1000);
            let times: Vec<_> = constant(from, 40, Ratio::from_integer(0));
            for times in [times.iter().map(rounded).collect(), times] {
                let instants = lay_out(plan, &times, from.recip(), &[]);
                contiguous(&instants);
                let real = instants.iter().filter_map(|it| match it.shown {
                    Shown::Real(index) => Some(index),
                    _ => None,
                });
                let real: Vec<_> = real.collect();
                let mut once = real.clone();
                once.dedup();
                assert_eq!(real, once, "{from} to {rate}, {stretch} times as long");
            }
        }
    }

    #[test]
    fn millisecond_stamps_snap_to_real_frames() {
        let times: Vec<_> = (0..31).map(|i| Ratio::new((i * 1000 + 15) / 30, 1000)).collect();
        let to = Ratio::from_integer(60);
        let plan = Plan { stretch: Ratio::from_integer(1), rate: to, sampling: Sampling::Grid(to) };
        let instants = lay_out(plan, &times, Ratio::new(33, 1000), &[]);
        for (k, instant) in instants.iter().enumerate().take(61).step_by(2) {
            assert_eq!(instant.shown, Shown::Real(k as u64 / 2));
        }
    }

    /// The longest fractions that are read, on a clock of nanoseconds with gaps of a second and more, as late as days.
    #[test]
    fn rates_and_speeds_of_many_digits_have_room() {
        let day = Ratio::from_integer(86_400);
        let uneven = [0, 999_999_937, 12_345_678_901, 12_387_387_388];
        let times = uneven.map(|ns| day * 3 + Ratio::new(ns, 1_000_000_000));
        for rate in [Ratio::new(9_999_999_967, 999_999_937), Ratio::new(9_999_999_967, 31_250_003)]
        {
            for speed in
                [Ratio::new(9_999_999_943, 9_999_999_967), Ratio::new(624_999_999, 9_999_999_943)]
            {
                let plan = Plan { stretch: speed.recip(), rate, sampling: Sampling::Grid(rate) };
                let instants = lay_out(plan, &times, Ratio::new(41_666_667, 1_000_000_000), &[]);
                contiguous(&instants);
                let number = |it: Ratio<i128>| *it.numer() as f64 / *it.denom() as f64;
                for instant in &instants {
                    let Shown::Between { first, timestep } = instant.shown else { continue };
                    let gap = &uneven[first as usize..];
                    let at = number(instant.pts) * number(speed) * 1e9 - gap[0] as f64;
                    let expected = at / (gap[1] - gap[0]) as f64;
                    assert!(
                        (f64::from(timestep) - expected).abs() < 1e-6,
                        "{instant:?}: {expected}"
                    );
                }
            }
        }
    }
}
