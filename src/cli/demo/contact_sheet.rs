//! A picture to look at: for a few moments, two real frames and the made frames between them, whole and in detail.

use std::path::Path;

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use crate::cli::CliError;
use crate::cli::demo::timing::{Gap, spread_gaps};
use crate::cli::picture_file::{self, Existing};
use crate::error::ExitCode;
use crate::frame::Frame;
use crate::media::clip::VideoInfo;
use crate::media::decode::Decoder;
use crate::pipeline::{font, shown};
use crate::report::Interpolation;

/// Moments shown.
const MOMENTS: usize = 3;
/// Made frames shown of each moment, at the most.
const MADE: u64 = 3;
/// Width of a cell at the most, in pixels.
const CELL_WIDTH: u32 = 320;
/// Between cells, and around them.
const SPACE: u32 = 8;
/// Height of a label.
const LABEL_HEIGHT: u32 = 20;
/// Side of a dot of the labels.
const DOT: u32 = 2;
/// Steps in which the place of the detail is searched.
const SEARCH_STEP: usize = 16;

const BACKGROUND: Rgb<u8> = Rgb([24, 26, 30]);
const REAL: Rgb<u8> = Rgb([120, 200, 120]);
const MADE_COLOR: Rgb<u8> = Rgb([240, 170, 70]);

/// A frame of the output with its label.
struct Cell {
    image: RgbImage,
    label: String,
    color: Rgb<u8>,
}

/// Writes the sheet of `video` as PNG; `false` where it has no made frame to show.
///
/// # Errors
/// Those of decoding and of writing the file.
pub fn write(path: &Path, video: &Path, interpolation: &Interpolation) -> Result<bool, CliError> {
    let gaps = spread_gaps(&interpolation.frame_map, MOMENTS);
    let mut decoder = Decoder::open(video).map_err(|error| CliError::of(&error))?;
    let shape = decoder.info().video.clone();
    let mut rows = Vec::new();
    let mut number = 0;
    for gap in gaps {
        let wanted = wanted(gap);
        let mut cells = Vec::new();
        while number <= gap.last {
            let Some(frame) = decoder.next_frame().map_err(|error| CliError::of(&error))? else {
                let message = format!("{}: has fewer frames than its report", video.display());
                return Err(CliError::new(ExitCode::Software, message));
            };
            if wanted.contains(&number) {
                cells.push(cell(&frame, &shape, number, gap));
            }
            number += 1;
        }
        rows.push(whole_row(&cells));
        rows.push(detail_row(&cells));
    }
    if rows.is_empty() {
        return Ok(false);
    }
    let sheet = stack(&rows);
    let size = (sheet.width() as usize, sheet.height() as usize);
    picture_file::write_rgb8(path, sheet.as_raw(), size, Existing::Replace)?;
    Ok(true)
}

/// The numbers of the frames shown of a gap: both ends and up to [`MADE`] between them, evenly.
fn wanted(gap: Gap) -> Vec<u64> {
    let made = gap.last - gap.first - 1;
    let shown = made.min(MADE);
    let middle = (0..shown).map(|k| gap.first + 1 + made * (2 * k + 1) / (2 * shown));
    std::iter::once(gap.first).chain(middle).chain([gap.last]).collect()
}

/// A frame as players show it.
fn cell(frame: &Frame, video: &VideoInfo, number: u64, gap: Gap) -> Cell {
    let image = shown::square(shown::rgb(&frame.picture), video);
    let image = shown::turned(image, video).into_rgb8();
    let seconds = *frame.pts.numer() as f64 / *frame.pts.denom() as f64;
    let (what, color) = if number == gap.first || number == gap.last {
        ("real", REAL)
    } else {
        ("synthesised", MADE_COLOR)
    };
    Cell { image, label: format!("{what} {seconds:.3} s"), color }
}

/// Size of the cells of frames of that size.
fn cell_size(image: &RgbImage) -> (u32, u32) {
    let width = image.width().min(CELL_WIDTH);
    let height = u64::from(image.height()) * u64::from(width) / u64::from(image.width());
    (width, u32::try_from(height).unwrap_or(1).max(1))
}

fn whole_row(cells: &[Cell]) -> RgbImage {
    let draw = |cell: &Cell| {
        let (width, height) = cell_size(&cell.image);
        imageops::resize(&cell.image, width, height, FilterType::Triangle)
    };
    row(cells, draw, |cell| cell.label.clone())
}

/// The part of the frames that changes most between the two real ones, pixel by pixel.
fn detail_row(cells: &[Cell]) -> RgbImage {
    let (Some(first), Some(last)) = (cells.first(), cells.last()) else {
        return RgbImage::new(1, 1);
    };
    let (width, height) = cell_size(&first.image);
    let (x, y) = busiest(&first.image, &last.image, (width, height));
    let draw = |cell: &Cell| imageops::crop_imm(&cell.image, x, y, width, height).to_image();
    row(cells, draw, |_| "detail".to_owned())
}

fn row(
    cells: &[Cell],
    draw: impl Fn(&Cell) -> RgbImage,
    label: impl Fn(&Cell) -> String,
) -> RgbImage {
    let drawn: Vec<RgbImage> = cells.iter().map(draw).collect();
    let width = drawn.iter().map(|it| it.width() + SPACE).sum::<u32>() + SPACE;
    let height = drawn.iter().map(RgbImage::height).max().unwrap_or(1) + LABEL_HEIGHT + SPACE;
    let mut out = RgbImage::from_pixel(width, height, BACKGROUND);
    let mut x = SPACE;
    for (cell, image) in cells.iter().zip(&drawn) {
        write_text(&mut out, &label(cell), (x, (LABEL_HEIGHT - 14) / 2), cell.color);
        imageops::replace(&mut out, image, i64::from(x), i64::from(LABEL_HEIGHT));
        x += image.width() + SPACE;
    }
    out
}

fn stack(rows: &[RgbImage]) -> RgbImage {
    let width = rows.iter().map(RgbImage::width).max().unwrap_or(1);
    let height = rows.iter().map(RgbImage::height).sum::<u32>() + SPACE;
    let mut out = RgbImage::from_pixel(width, height, BACKGROUND);
    let mut y = i64::from(SPACE);
    for row in rows {
        imageops::replace(&mut out, row, 0, y);
        y += i64::from(row.height());
    }
    out
}

fn write_text(out: &mut RgbImage, text: &str, (left, top): (u32, u32), color: Rgb<u8>) {
    let width = text.chars().count() as u32 * font::ADVANCE as u32 * DOT;
    for y in 0..font::GLYPH_HEIGHT as u32 * DOT {
        for x in 0..width {
            if font::dot(text, (x / DOT) as usize, (y / DOT) as usize)
                && let Some(pixel) = out.get_pixel_mut_checked(left + x, top + y)
            {
                *pixel = color;
            }
        }
    }
}

/// Upper left corner of the part of that size in which the two pictures differ most.
fn busiest(a: &RgbImage, b: &RgbImage, (width, height): (u32, u32)) -> (u32, u32) {
    let columns = (a.width() as usize).div_ceil(SEARCH_STEP);
    let rows = (a.height() as usize).div_ceil(SEARCH_STEP);
    let mut change = vec![0_u64; columns * rows];
    for ((x, y, a), b) in a.enumerate_pixels().zip(b.pixels()) {
        let place = y as usize / SEARCH_STEP * columns + x as usize / SEARCH_STEP;
        change[place] += u64::from(a.0[1].abs_diff(b.0[1]));
    }
    let sum = |column: usize, row: usize| -> u64 {
        let line = |y: usize| -> u64 {
            let end = columns.min(column + width as usize / SEARCH_STEP);
            change[y * columns + column..y * columns + end].iter().sum()
        };
        (row..rows.min(row + height as usize / SEARCH_STEP)).map(line).sum()
    };
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (column, row)));
    let (column, row) = places.max_by_key(|&(column, row)| sum(column, row)).unwrap_or_default();
    let at = |step: usize, whole: u32, part: u32| ((step * SEARCH_STEP) as u32).min(whole - part);
    (at(column, a.width(), width), at(row, a.height(), height))
}
