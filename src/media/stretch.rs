//! Longer or shorter sound of the same pitch: waveform similarity overlap-add (WSOLA; Verhelst and Roelands, 1993).
//!
//! Pieces of the input, faded in and out, are laid out at a fixed step; each is taken from where its time says, moved by a
//! few milliseconds to where it continues the piece before. Places are counted from the start, so that no error adds up:
//! FFmpeg's `atempo` was 18 ms early at twice the length, 46 ms at four times and 100 ms at eight times.
//!
//! A moment is heard in all pieces that hold it, so what they were moved by on average, times the stretch, is what it is off
//! by: 1 ms too far at sixteen times is 16 ms. So the next piece is drawn to where it makes up for those before.

use num_rational::Ratio;

use crate::frame::Seconds;

/// Length of a piece.
const PIECE_MS: usize = 30;

/// How far a piece may be moved: half a period of the lowest voice (83 Hz).
const SEARCH_MS: i64 = 6;

/// Step of the search, in samples.
const SEARCH_STEP: i64 = 2;

/// What a place as far away as the search goes loses of its likeness. Without, pieces at the start of a sound are drawn
/// into it and the sound comes early.
const PENALTY: f32 = 0.7;

/// The part of the search that a piece is drawn to one side by, at the most, to make up for those before it.
const MOST_DRAWN: f64 = 0.5;

/// Where the mean of the channels has so much less energy than the loudest of them, they cancel each other, and that one is
/// what places are compared in.
const CANCELLED: f32 = 8.0;

/// Where no place is more like what followed than this (1 is the same), nothing can be continued: that is noise, or where a
/// sound begins or ends, which is where the energy is this many times as high or as low.
const UNLIKE: f32 = 0.2;
const SUDDEN: f32 = 16.0;

/// Pieces of noise are where their time says but for these thousandths of the search, one after the other. Without, two that
/// overlap are the same distance apart every time, and the noise beats: parts of it come out louder. Each makes up for the
/// one before.
const SCATTER: [i64; 8] = [200, -200, -143, 143, -86, 86, 29, -29];

/// For how many pieces, at no stretch, what they were moved by is remembered. A moment is heard in that many times more of
/// them as the sound is longer.
const REMEMBERED_PIECES: f64 = 16.0;

/// Stretches planar samples as they come.
pub(super) struct Stretcher {
    stretch: Seconds,
    /// Samples of a piece, even.
    piece: i64,
    search: i64,
    window: Vec<f32>,
    /// Input of each channel from sample `base` on, and the mean of the channels.
    input: Vec<Vec<f32>>,
    mean: Vec<f32>,
    base: i64,
    /// Second half of the last piece, faded out.
    tail: Vec<Vec<f32>>,
    /// Where in the input the last piece began.
    previous: Option<i64>,
    /// Number of the next piece.
    next: i64,
    made: i64,
    /// Sum of what pieces were moved by, in samples, each times its energy, the older the less.
    moved: f64,
    /// What is left of that sum a piece later.
    kept: f64,
}

impl Stretcher {
    /// For `channels` of `rate` samples a second, `stretch` (above 0) times as long.
    pub(super) fn new(channels: usize, rate: i32, stretch: Seconds) -> Self {
        let rate = usize::try_from(rate).unwrap_or(1);
        let half = (rate * PIECE_MS / 2_000).max(8);
        let step = std::f32::consts::PI / half as f32;
        let longer = (*stretch.numer() as f64 / *stretch.denom() as f64).max(1.0);
        Self {
            stretch,
            piece: whole(2 * half),
            search: whole(rate) * SEARCH_MS / 1_000,
            window: (0..2 * half).map(|at| 0.5 - 0.5 * (at as f32 * step).cos()).collect(),
            input: vec![Vec::new(); channels],
            mean: Vec::new(),
            base: 0,
            tail: vec![vec![0.0; half]; channels],
            previous: None,
            next: 0,
            made: 0,
            moved: 0.0,
            kept: (-1.0 / (REMEMBERED_PIECES * longer)).exp(),
        }
    }

    /// Takes samples of every channel; appends what is ready to `out`.
    pub(super) fn push(&mut self, samples: &[Vec<f32>], out: &mut [Vec<f32>]) {
        let count = samples.iter().map(Vec::len).min().unwrap_or(0);
        let scale = 1.0 / samples.len().max(1) as f32;
        for (channel, new) in self.input.iter_mut().zip(samples) {
            channel.extend_from_slice(&new[..count]);
        }
        let mean = |at: usize| samples.iter().map(|it| it[at]).sum::<f32>() * scale;
        self.mean.extend((0..count).map(mean));
        while self.needed_end() <= self.end() {
            self.lay(out);
            self.forget();
        }
    }

    /// Appends the rest: the output is as long as the input times the stretch, to the sample.
    pub(super) fn finish(&mut self, out: &mut [Vec<f32>]) {
        let exact = self.stretch * i128::from(self.end());
        let length = i64::try_from(exact.round().to_integer()).unwrap_or(self.made);
        while self.made < length {
            self.lay(out);
        }
        let surplus = usize::try_from(self.made - length).unwrap_or(0);
        for channel in out {
            channel.truncate(channel.len().saturating_sub(surplus));
        }
    }

    fn end(&self) -> i64 {
        self.base + whole(self.mean.len())
    }

    /// Up to where the input must be known for the next piece: where it may be, and what it is compared with.
    fn needed_end(&self) -> i64 {
        let continued = self.previous.map_or(i64::MIN / 4, |it| it + self.piece / 2);
        continued.max(self.nominal_start() + self.search) + self.piece
    }

    /// Where the next piece begins by its time: its middle is where the time of its middle in the output says.
    fn nominal_start(&self) -> i64 {
        let middle = Ratio::from_integer(i128::from(self.next * self.piece / 2)) / self.stretch;
        i64::try_from(middle.floor().to_integer()).unwrap_or(i64::MAX / 4) - self.piece / 2
    }

    /// Lays the next piece over the tail of the one before.
    fn lay(&mut self, out: &mut [Vec<f32>]) {
        let nominal = self.nominal_start();
        let start = self.best_start(nominal);
        self.moved = self.moved * self.kept + self.energy(start) * (start - nominal) as f64;
        let half = self.tail.first().map_or(0, Vec::len);
        for ((input, tail), out) in self.input.iter().zip(&mut self.tail).zip(out) {
            let sample =
                |at: usize| at_index(input, start + whole(at) - self.base) * self.window[at];
            // The first piece is centred on time 0: its first half is before the output.
            if self.next > 0 {
                out.extend(tail.iter().enumerate().map(|(at, old)| old + sample(at)));
            }
            for (at, kept) in tail.iter_mut().enumerate() {
                *kept = sample(half + at);
            }
        }
        if self.next > 0 {
            self.made += whole(half);
        }
        self.previous = Some(start);
        self.next += 1;
    }

    /// The place near `nominal` that is most like what followed the piece before; less so the further it is from where it
    /// would make up for what pieces were moved by so far.
    fn best_start(&self, nominal: i64) -> i64 {
        let Some(previous) = self.previous else { return nominal };
        let followed = previous + self.piece / 2;
        let heard = self.heard(followed);
        let heard_at = |at: i64| at_index(heard, at - self.base);
        let natural: Vec<f32> = (0..self.piece).map(|at| heard_at(followed + at)).collect();
        if natural.iter().all(|it| *it == 0.0) {
            return nominal;
        }
        let likeness = |start: i64| {
            let (mut product, mut energy) = (0.0_f32, 1e-9_f32);
            for (at, wanted) in natural.iter().enumerate() {
                let sample = heard_at(start + whole(at));
                product += sample * wanted;
                energy += sample * sample;
            }
            product / energy.sqrt()
        };
        let drawn = nominal - self.made_up_by(nominal);
        let mut best = (drawn, likeness(drawn));
        let mut distance = SEARCH_STEP;
        while distance <= 2 * self.search {
            let penalty = PENALTY * distance as f32 / self.search as f32;
            for start in [drawn - distance, drawn + distance] {
                if (start - nominal).abs() > self.search {
                    continue;
                }
                let score = likeness(start) * (1.0 - penalty);
                if score > best.1.max(0.0) {
                    best = (start, score);
                }
            }
            distance += SEARCH_STEP;
        }
        let energy: f32 = natural.iter().map(|it| it * it).sum();
        let there: f32 = (0..self.piece).map(|at| heard_at(nominal + at).powi(2)).sum();
        let is_even = there < SUDDEN * energy && energy < SUDDEN * there;
        let is_noise = is_even && best.1 < UNLIKE * energy.sqrt();
        if is_noise { nominal + self.scattered() } else { best.0 }
    }

    /// What places are compared in for a piece that continues `start`: the mean of the channels, unless they cancel each other.
    fn heard(&self, start: i64) -> &[f32] {
        let energy = |samples: &[f32]| {
            (0..self.piece).map(|at| at_index(samples, start + at - self.base).powi(2)).sum::<f32>()
        };
        let loudest = self.input.iter().map(|it| (energy(it), it));
        let Some((most, channel)) = loudest.max_by(|a, b| a.0.total_cmp(&b.0)) else {
            return &self.mean;
        };
        if most > CANCELLED * energy(&self.mean) { channel } else { &self.mean }
    }

    /// By how many samples the next piece is off its time where it is noise.
    fn scattered(&self) -> i64 {
        let at = usize::try_from(self.next).unwrap_or(0) % SCATTER.len();
        self.search * SCATTER[at] / 1_000
    }

    /// How much earlier than at `nominal` a piece makes up for what those before were moved by, in samples.
    fn made_up_by(&self, nominal: i64) -> i64 {
        let most = self.search as f64 * MOST_DRAWN;
        let energy = self.energy(nominal).max(f64::MIN_POSITIVE);
        (self.moved / energy).clamp(-most, most) as i64
    }

    /// Energy of the piece that begins at `start`, as it is heard.
    fn energy(&self, start: i64) -> f64 {
        let heard = self.window.iter().enumerate();
        heard.map(|(at, it)| f64::from(it * self.mean_at(start + whole(at))).powi(2)).sum()
    }

    fn mean_at(&self, at: i64) -> f32 {
        at_index(&self.mean, at - self.base)
    }

    /// Drops input that no later piece can need.
    fn forget(&mut self) {
        let continued = self.previous.map_or(self.base, |it| it + self.piece / 2);
        let keep_from = continued.min(self.nominal_start() - self.search);
        let Ok(count) = usize::try_from(keep_from - self.base) else { return };
        // Moving what is left costs more than the memory of a few pieces.
        if count < self.window.len() * 8 {
            return;
        }
        let count = count.min(self.mean.len());
        for channel in self.input.iter_mut().chain(std::iter::once(&mut self.mean)) {
            channel.drain(..count);
        }
        self.base += whole(count);
    }
}

/// The sample, or silence outside.
fn at_index(samples: &[f32], at: i64) -> f32 {
    usize::try_from(at).ok().and_then(|at| samples.get(at)).copied().unwrap_or(0.0)
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: i32 = 24_000;
    /// What lip sync allows.
    const TOLERANCE_S: f64 = 0.005;

    fn stretched(input: &[f32], stretch: Seconds, block: usize) -> Vec<f32> {
        let mut stretcher = Stretcher::new(1, RATE, stretch);
        let mut out = vec![Vec::new()];
        for part in input.chunks(block) {
            stretcher.push(&[part.to_vec()], &mut out);
        }
        stretcher.finish(&mut out);
        out.remove(0)
    }

    fn beep(pitch_hz: f32, from_s: f32, to_s: f32, length_s: f32) -> Vec<f32> {
        let sample = |at: usize| {
            let time = at as f32 / RATE as f32;
            let on = (from_s..to_s).contains(&time);
            if on { (time * pitch_hz * std::f32::consts::TAU).sin() } else { 0.0 }
        };
        (0..(length_s * RATE as f32) as usize).map(sample).collect()
    }

    /// V05, V19: at the start, in the middle and at the end of a sound.
    #[test]
    fn a_beep_is_where_its_time_says_at_every_stretch() {
        const BEEPS_S: [f32; 3] = [0.15, 0.55, 0.95];
        let tone = |hz: f32, at: f32| (at * hz * std::f32::consts::TAU).sin();
        let chord = |at: f32| [220.0, 311.0, 1046.5].iter().map(|hz| tone(*hz, at)).sum::<f32>();
        // A voice of 12 harmonics that rises from 120 Hz.
        let voice = |at: f32| {
            let phase = at * (1.0 + at / 8.0);
            (1..13).map(|n| tone(120.0 * n as f32, phase) / n as f32).sum::<f32>()
        };
        let sounds: [(&str, &dyn Fn(f32) -> f32); 6] = [
            ("100 Hz", &|at| tone(100.0, at)),
            ("440 Hz", &|at| tone(440.0, at)),
            ("880 Hz", &|at| tone(880.0, at)),
            ("1760 Hz", &|at| tone(1760.0, at)),
            ("chord", &chord),
            ("voice", &voice),
        ];
        for (name, sound) in sounds {
            let on = |at: f32| BEEPS_S.iter().any(|middle| (at - middle).abs() < 0.1);
            let times = (0..(1.1 * RATE as f32) as usize).map(|it| it as f32 / RATE as f32);
            let input: Vec<f32> = times.map(|at| if on(at) { sound(at) } else { 0.0 }).collect();
            for (n, d) in [(1, 2), (2, 1), (3, 1), (4, 1), (5, 1), (8, 1), (16, 1)] {
                let stretch = Ratio::new(n, d);
                let factor = n as f64 / d as f64;
                let out = stretched(&input, stretch, 1_000);
                assert_eq!(out.len(), (input.len() as f64 * factor) as usize);
                for beep in BEEPS_S.map(f64::from) {
                    let expected = middle(&input, beep, 1.0) * factor;
                    let off = middle(&out, beep, factor) - expected;
                    assert!(off.abs() < TOLERANCE_S, "{name} x{stretch}, {beep} s: {off} s off");
                }
            }
        }
    }

    /// V05: noise has no period that a piece could go on with, and is in step as all else is.
    #[test]
    fn noise_is_where_its_time_says_at_every_stretch() {
        for seed in 1..24_u32 {
            let mut state = seed;
            let mut noise = || {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as f32 / u32::MAX as f32 - 0.5
            };
            let on = |at: usize| (0.45..0.65).contains(&(at as f32 / RATE as f32));
            let input: Vec<f32> = (0..(1.1 * RATE as f32) as usize)
                .map(|at| if on(at) { noise() } else { 0.0 })
                .collect();
            for (n, d) in [(1, 2), (2, 1), (3, 1), (4, 1), (8, 1), (16, 1)] {
                let (stretch, factor) = (Ratio::new(n, d), n as f64 / d as f64);
                let out = stretched(&input, stretch, 1_000);
                let expected = middle(&input, 0.55, 1.0) * factor;
                let off = middle(&out, 0.55, factor) - expected;
                assert!(off.abs() < TOLERANCE_S, "noise {seed} x{stretch}: {off} s off");
            }
        }
    }

    /// Middle of the energy within 0.15 s of a beep, in a sound that is `factor` times as long.
    fn middle(samples: &[f32], beep_s: f64, factor: f64) -> f64 {
        let rate = f64::from(RATE);
        let place = |time: f64| ((time * factor * rate) as usize).min(samples.len());
        let places = place((beep_s - 0.15).max(0.0))..place(beep_s + 0.15);
        let energy = |at: usize| f64::from(samples[at]).powi(2);
        let total: f64 = places.clone().map(energy).sum();
        places.map(|at| at as f64 * energy(at)).sum::<f64>() / total / rate
    }

    /// V02: two hours later no error has added up, at a stretch that is no whole number.
    #[test]
    fn a_beep_after_two_hours_is_where_its_time_says() {
        const RATE: i32 = 1_000;
        const BEEP_S: f64 = 7_100.0;
        let stretch = Ratio::new(60 * 1_001, 24_000);
        let factor = 60.0 * 1_001.0 / 24_000.0;
        let mut stretcher = Stretcher::new(1, RATE, stretch);
        let (mut before, mut moment, mut total) = (0, 0.0, 0.0);
        let mut weigh = |out: &mut Vec<Vec<f32>>| {
            for (at, sample) in out[0].iter().enumerate() {
                moment += (before + at) as f64 * f64::from(*sample).powi(2);
                total += f64::from(*sample).powi(2);
            }
            before += out[0].len();
            out[0].clear();
        };
        let mut out = vec![Vec::new()];
        for second in 0..7_200 {
            let sample = |at: i32| {
                let time = f64::from(second) + f64::from(at) / f64::from(RATE);
                let on = (time - BEEP_S).abs() < 0.1;
                if on { (time * 100.0 * std::f64::consts::TAU).sin() as f32 } else { 0.0 }
            };
            stretcher.push(&[(0..RATE).map(sample).collect()], &mut out);
            weigh(&mut out);
        }
        stretcher.finish(&mut out);
        weigh(&mut out);
        let off = moment / total / f64::from(RATE) - BEEP_S * factor;
        assert!(off.abs() < TOLERANCE_S, "{off} s off");
        assert_eq!(before, (7_200.0 * f64::from(RATE) * factor).round() as usize);
    }

    /// Mean pitch by its crossings of zero.
    fn pitch_hz(samples: &[f32]) -> f32 {
        let crossings = samples.windows(2).filter(|it| it[0] < 0.0 && it[1] >= 0.0).count();
        crossings as f32 / (samples.len() as f32 / RATE as f32)
    }

    #[test]
    fn channels_that_cancel_each_other_keep_their_pitch() {
        let left = beep(440.0, 0.0, 1.0, 1.0);
        let right = left.iter().map(|it| -it).collect();
        let mut stretcher = Stretcher::new(2, RATE, Ratio::from_integer(2));
        let mut out = vec![Vec::new(), Vec::new()];
        stretcher.push(&[left, right], &mut out);
        stretcher.finish(&mut out);
        let pitch = pitch_hz(&out[0][4_800..43_200]);
        assert!((pitch - 440.0).abs() < 1.3, "{pitch}");
        assert!(out[0].iter().zip(&out[1]).all(|(left, right)| *left == -right));
    }

    #[test]
    fn a_tone_keeps_pitch_and_level() {
        let input = beep(440.0, 0.0, 1.0, 1.0);
        let out = stretched(&input, Ratio::from_integer(4), 777);
        let inner = &out[4_800..91_200];
        let pitch = pitch_hz(inner);
        // One crossing more or less in 3.6 s.
        assert!((pitch - 440.0).abs() < 0.6, "{pitch}");
        let power = inner.iter().map(|it| it * it).sum::<f32>() / inner.len() as f32;
        // A full sine has 0.5; pieces that fit within 2 samples lose little.
        assert!((0.47..0.52).contains(&power), "{power}");
    }

    #[test]
    fn blocks_of_any_size_give_the_same_sound() {
        let input = beep(300.0, 0.1, 0.3, 0.5);
        let stretch = Ratio::new(5, 2);
        assert!(stretched(&input, stretch, 64) == stretched(&input, stretch, 24_000));
    }
}
