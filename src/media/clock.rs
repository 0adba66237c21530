//! Times of decoded frames: strictly increasing, and exact where a container's clock is coarse.

use num_rational::Ratio;

use crate::frame::Seconds;

/// A clock that ticks this slowly, or slower, rounds frame times visibly (Matroska and FLV: 1 ms).
const COARSE_TICK: Seconds = Ratio::new_raw(1, 2000);

/// Keeps times strictly increasing.
///
/// A frame without a time follows its predecessor by one nominal frame. A time that is not after its predecessor's is
/// put one tick after it; but where time steps back by more than [`Clock::BACK_S`] or ahead by more than
/// [`Clock::AHEAD_S`] (a counter that started again, a damaged time), everything from there on is moved, so that the
/// frame follows its predecessor by one nominal frame.
///
/// Where the clock is coarse, a time within one tick of the nominal rate's grid is the grid's: 0, 42, 83, 125 ms of a
/// 24 fps clip are 0, 1/24, 2/24, 3/24 s. Otherwise a constant rate would come out as a trembling one.
pub(super) struct Clock {
    tick: Seconds,
    nominal: Option<Seconds>,
    origin: Option<Seconds>,
    shift: Seconds,
    last: Option<Seconds>,
    repaired: u64,
}

impl Clock {
    /// Steps back longer than this many seconds start a new count.
    const BACK_S: i128 = 1;
    /// Steps ahead longer than this many seconds do too.
    pub(super) const AHEAD_S: i128 = 600;

    /// `nominal` is the duration of a frame by the header's rate.
    pub(super) fn new(tick: Seconds, nominal: Option<Seconds>) -> Self {
        Self { tick, nominal, origin: None, shift: Seconds::default(), last: None, repaired: 0 }
    }

    /// One tick of the container's clock.
    pub(super) fn tick(&self) -> Seconds {
        self.tick
    }

    /// What a frame lasts where nothing says: the nominal duration, else a tick.
    fn frame_duration(&self) -> Seconds {
        self.nominal.unwrap_or(self.tick)
    }

    /// Whether frames are at other times now than the container has, as it started its count again or jumped.
    pub(super) fn is_moved(&self) -> bool {
        self.shift != Seconds::default()
    }

    /// How many times were missing or out of order.
    pub(super) fn repaired(&self) -> u64 {
        self.repaired
    }

    /// The time of the next frame, given the container's.
    pub(super) fn place(&mut self, time: Option<Seconds>) -> Seconds {
        let nominal = self.frame_duration();
        let placed = match (self.last, time.map(|it| it + self.shift)) {
            (None, Some(time)) => time,
            (None, None) => Seconds::default(),
            (Some(last), None) => self.repair(last + nominal),
            (Some(last), Some(time)) if Self::is_jump(last, time) => {
                self.shift += last + nominal - time;
                self.repair(last + nominal)
            }
            (Some(last), Some(time)) if time > last => self.regular(time, last),
            (Some(last), Some(_)) => self.repair(last + self.tick),
        };
        self.origin.get_or_insert(placed);
        self.last = Some(placed);
        placed
    }

    /// Whether time starts anew, or is wrong, between two frames.
    pub(super) fn is_jump(last: Seconds, time: Seconds) -> bool {
        last - time > Ratio::from_integer(Self::BACK_S)
            || time - last > Ratio::from_integer(Self::AHEAD_S)
    }

    /// Whether a time behind `last` may be wrong by itself, which the next one tells ([`Self::comes_back`]): it goes back, or
    /// further ahead than frames are apart that last `nominal`.
    pub(super) fn is_doubtful(last: Seconds, time: Seconds, nominal: Seconds) -> bool {
        Self::is_jump(last, time) || time - last > Self::step(nominal)
    }

    /// Whether a time that follows a doubtful one goes on behind `last`, the one before that, so that the doubtful one is wrong.
    pub(super) fn comes_back(last: Seconds, next: Seconds, nominal: Seconds) -> bool {
        next > last && next - last <= Self::step(nominal)
    }

    /// The longest step between two frames that is not looked at more closely.
    fn step(nominal: Seconds) -> Seconds {
        (nominal * 4).max(Ratio::from_integer(Self::BACK_S))
    }

    /// Whether the next frame's time decides what this one's is.
    pub(super) fn doubts(&self, time: Option<Seconds>) -> bool {
        let time = time.map(|it| it + self.shift);
        let both = self.last.zip(time);
        both.is_some_and(|(last, time)| Self::is_doubtful(last, time, self.frame_duration()))
    }

    /// [`Self::place`] of a frame whose time is in [doubt](Self::doubts), given that of the next frame: whether it was wrong, and
    /// where it is.
    pub(super) fn place_before(
        &mut self,
        time: Option<Seconds>,
        next: Option<Seconds>,
    ) -> (bool, Seconds) {
        let (nominal, next) = (self.frame_duration(), next.map(|it| it + self.shift));
        match self.last.zip(next) {
            Some((last, next)) if Self::comes_back(last, next, nominal) => {
                let between = (last + nominal).min((last + next) / 2);
                let placed = self.repair(between);
                self.last = Some(placed);
                (true, placed)
            }
            _ => (false, self.place(time)),
        }
    }

    /// The container's duration of a frame, made exact as times are.
    pub(super) fn regular_duration(&self, duration: Seconds) -> Seconds {
        match self.coarse_nominal() {
            Some(nominal) if self.is_within_tick(nominal, duration) => nominal,
            _ => duration,
        }
    }

    fn regular(&self, time: Seconds, last: Seconds) -> Seconds {
        let (Some(nominal), Some(origin)) = (self.coarse_nominal(), self.origin) else {
            return time;
        };
        let grid = origin + ((time - origin) / nominal).round() * nominal;
        if self.is_within_tick(grid, time) && grid > last { grid } else { time }
    }

    fn coarse_nominal(&self) -> Option<Seconds> {
        self.nominal.filter(|_| self.tick >= COARSE_TICK)
    }

    fn is_within_tick(&self, a: Seconds, b: Seconds) -> bool {
        a - b <= self.tick && b - a <= self.tick
    }

    fn repair(&mut self, time: Seconds) -> Seconds {
        self.repaired += 1;
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: i128) -> Seconds {
        Ratio::new(count, 1000)
    }

    #[test]
    fn times_are_made_strictly_increasing() {
        let mut clock = Clock::new(ms(1), Some(ms(40)));
        let given = [Some(0), Some(40), Some(40), Some(30), Some(120), None, Some(200)];
        let placed: Vec<_> = given.iter().map(|it| clock.place(it.map(ms))).collect();
        assert_eq!(placed, [0, 40, 41, 42, 120, 160, 200].map(ms));
        assert_eq!(clock.repaired(), 3);
    }

    #[test]
    fn a_counter_that_starts_again_is_carried_on() {
        let mut clock = Clock::new(ms(1), Some(ms(40)));
        let given = [5000, 5040, 0, 40, 90];
        let placed: Vec<_> = given.iter().map(|it| clock.place(Some(ms(*it)))).collect();
        assert_eq!(placed, [5000, 5040, 5080, 5120, 5170].map(ms));
        assert!(clock.is_moved());
        assert_eq!(clock.repaired(), 1);
    }

    #[test]
    fn one_damaged_time_does_not_open_a_gap_of_hours() {
        let mut clock = Clock::new(ms(1), Some(ms(40)));
        let given = [0, 40, 95_443_717, 120, 160];
        let placed: Vec<_> = given.iter().map(|it| clock.place(Some(ms(*it)))).collect();
        assert_eq!(placed, [0, 40, 80, 120, 160].map(ms));
        assert!(!clock.is_moved());
        assert_eq!(clock.repaired(), 2);
    }

    #[test]
    fn a_wrong_time_is_told_by_the_next_one() {
        for wrong in [373_000, 95_443_717, -373_000] {
            let mut clock = Clock::new(ms(1), Some(ms(40)));
            for time in [0, 40] {
                assert!(!clock.doubts(Some(ms(time))));
                clock.place(Some(ms(time)));
            }
            assert!(clock.doubts(Some(ms(wrong))));
            assert_eq!(clock.place_before(Some(ms(wrong)), Some(ms(120))), (true, ms(80)));
            assert_eq!(clock.place(Some(ms(120))), ms(120));
            assert!(!clock.is_moved());
            assert_eq!(clock.repaired(), 1);
        }
        // A pause, and a count that starts again, go on where they are.
        for (time, placed) in [(373_000, 373_000), (5_000_000, 80), (-50_000, 80)] {
            let mut clock = Clock::new(ms(1), Some(ms(40)));
            clock.place(Some(ms(0)));
            clock.place(Some(ms(40)));
            let found = clock.place_before(Some(ms(time)), Some(ms(time + 40)));
            assert_eq!(found, (false, ms(placed)));
            assert_eq!(clock.place(Some(ms(time + 40))), ms(placed + 40));
        }
    }

    #[test]
    fn slow_pictures_are_in_no_doubt() {
        let mut clock = Clock::new(ms(1), Some(ms(5_000)));
        clock.place(Some(ms(0)));
        assert!(!clock.doubts(Some(ms(5_000))) && !clock.doubts(None));
        assert!(clock.doubts(Some(ms(30_000))));
    }

    #[test]
    fn a_coarse_clock_does_not_make_a_constant_rate_tremble() {
        let nominal = Ratio::new(1001, 24000);
        let mut clock = Clock::new(ms(1), Some(nominal));
        for frame in 0..5000 {
            let exact = ms(7) + nominal * frame;
            let rounded = ms((exact * 1000).round().to_integer());
            assert_eq!(clock.place(Some(rounded)), exact, "frame {frame}");
        }
        assert_eq!(clock.regular_duration(ms(41)), nominal);
        assert_eq!(clock.regular_duration(ms(83)), ms(83));
    }

    #[test]
    fn variable_times_and_fine_clocks_are_left_alone() {
        let mut coarse = Clock::new(ms(1), Some(Ratio::new(1, 30)));
        let given = [0, 20, 50, 78, 120];
        let placed: Vec<_> = given.iter().map(|it| coarse.place(Some(ms(*it)))).collect();
        assert_eq!(placed, given.map(ms));
        let tick = Ratio::new(1, 90_000);
        let mut fine = Clock::new(tick, Some(Ratio::new(1, 30)));
        assert_eq!(fine.place(Some(ms(0))), ms(0));
        assert_eq!(fine.place(Some(tick * 3001)), tick * 3001);
    }
}
