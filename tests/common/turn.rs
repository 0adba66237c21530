//! Clips that players turn: which option of FFmpeg's command makes them differs from version to version, the box does not.

use std::fs;
use std::path::Path;

/// Has players show the pictures of the MP4 or MOV file at `path` turned clockwise by `degrees`, a multiple of 90.
pub fn turn(path: &Path, degrees: usize) {
    let one = 1 << 16;
    let [a, b, c, d] = match degrees {
        0 => [one, 0, 0, one],
        90 => [0, one, -one, 0],
        180 => [-one, 0, 0, -one],
        _ => [0, -one, one, 0],
    };
    let mut bytes = fs::read(path).unwrap();
    // The header of the first track: its matrix lies behind its times and its layer.
    let start = bytes.windows(4).position(|it| it == b"tkhd").unwrap() + 4 + 40;
    let matrix: [i32; 9] = [a, b, 0, c, d, 0, 0, 0, 1 << 30];
    for (to, value) in bytes[start..].chunks_exact_mut(4).zip(matrix) {
        to.copy_from_slice(&value.to_be_bytes());
    }
    fs::write(path, bytes).unwrap();
}
