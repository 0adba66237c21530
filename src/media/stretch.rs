//! Longer or shorter sound of the same pitch: waveform similarity overlap-add (WSOLA; Verhelst and Roelands, 1993).
//!
//! Pieces of the input, faded in and out, are laid out at a fixed step; each is taken from where its time says, moved by a
//! few milliseconds to where it continues the piece before. Places are counted from the start, so that no error adds up:
//! FFmpeg's `atempo` was 18 ms early at twice the length, 46 ms at four times and 100 ms at eight times.

use num_rational::Ratio;

use crate::frame::Seconds;

/// Length of a piece.
const PIECE_MS: usize = 30;

/// How far a piece may be moved: half a period of the lowest voice (83 Hz).
const SEARCH_MS: i64 = 6;

/// Step of the search, in samples.
const SEARCH_STEP: i64 = 2;

/// What a place at the end of the search loses of its likeness. Without, pieces at the start of a sound are drawn into it
/// and the sound comes early.
const PENALTY: f32 = 0.7;

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
}

impl Stretcher {
    /// For `channels` of `rate` samples a second, `stretch` (above 0) times as long.
    pub(super) fn new(channels: usize, rate: i32, stretch: Seconds) -> Self {
        let rate = usize::try_from(rate).unwrap_or(1);
        let half = (rate * PIECE_MS / 2_000).max(8);
        let step = std::f32::consts::PI / half as f32;
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
        let start = self.best_start(self.nominal_start());
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

    /// The place near `nominal` that is most like what followed the piece before; less so the further away.
    fn best_start(&self, nominal: i64) -> i64 {
        let Some(previous) = self.previous else { return nominal };
        let natural: Vec<f32> =
            (0..self.piece).map(|at| self.mean_at(previous + self.piece / 2 + at)).collect();
        if natural.iter().all(|it| *it == 0.0) {
            return nominal;
        }
        let likeness = |start: i64| {
            let (mut product, mut energy) = (0.0_f32, 1e-9_f32);
            for (at, wanted) in natural.iter().enumerate() {
                let sample = self.mean_at(start + whole(at));
                product += sample * wanted;
                energy += sample * sample;
            }
            product / energy.sqrt()
        };
        let mut best = (nominal, likeness(nominal));
        let mut distance = SEARCH_STEP;
        while distance <= self.search {
            for start in [nominal - distance, nominal + distance] {
                let score =
                    likeness(start) * (1.0 - PENALTY * distance as f32 / self.search as f32);
                if score > best.1.max(0.0) {
                    best = (start, score);
                }
            }
            distance += SEARCH_STEP;
        }
        best.0
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

    const RATE: i32 = 48_000;

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

    #[test]
    fn a_beep_is_where_its_time_says_at_every_stretch() {
        /// What lip sync allows.
        const TOLERANCE_S: f32 = 0.005;
        /// At sixteen times a piece of 30 ms stands for 2 ms, and the edges of the beep are spread over 0.5 s.
        const TOLERANCE_X16_S: f32 = 0.015;
        for pitch_hz in [120.0, 440.0, 880.0, 1234.0] {
            let input = beep(pitch_hz, 0.5, 0.7, 1.2);
            for (n, d) in [(3, 2), (2, 1), (10, 3), (4, 1), (8, 1), (16, 1), (1, 2)] {
                let stretch = Ratio::new(n, d);
                let out = stretched(&input, stretch, 1_000);
                let factor = n as f32 / d as f32;
                assert_eq!(out.len(), (input.len() as f32 * factor) as usize);
                let energy: f64 = out.iter().map(|it| f64::from(it * it)).sum();
                let moment: f64 =
                    out.iter().enumerate().map(|(at, it)| at as f64 * f64::from(it * it)).sum();
                let middle = (moment / energy) as f32 / RATE as f32;
                let off = middle - 0.6 * factor;
                let tolerance = if n == 16 { TOLERANCE_X16_S } else { TOLERANCE_S };
                assert!(off.abs() < tolerance, "{pitch_hz} Hz x{stretch}: {off} s");
            }
        }
    }

    #[test]
    fn a_tone_keeps_pitch_and_level() {
        let input = beep(440.0, 0.0, 1.0, 1.0);
        let out = stretched(&input, Ratio::from_integer(4), 777);
        let inner = &out[9_600..182_400];
        let crossings = inner.windows(2).filter(|it| it[0] < 0.0 && it[1] >= 0.0).count();
        let pitch = crossings as f32 / (inner.len() as f32 / RATE as f32);
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
