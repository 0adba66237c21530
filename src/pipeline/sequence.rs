//! Numbered pictures as a clip: which files they are, their hash, and writing them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image::{ColorType, ImageFormat};
use sha2::{Digest, Sha256};

use crate::frame::{PictureFormat, Rate};
use crate::hex::hex;
use crate::media::MediaError;
use crate::media::decode::Decoder;
use crate::media::pictures::{self, Gathering};
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::{ConvertError, beside, shown};

/// Number of the first picture that is written, as FFmpeg numbers them.
pub const FIRST: u64 = 1;

/// Most digits of a number.
const DIGITS: usize = 18;

/// The name of numbered pictures: `folder/before%05dafter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Where they lie.
    pub folder: PathBuf,
    before: String,
    /// Least digits of a number, zeros in front.
    digits: usize,
    after: String,
}

impl Pattern {
    /// Reads `folder/name%05d.png` or `folder/name%d.png`; `None` for any other name.
    #[must_use]
    pub fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (before, rest) = name.split_once('%')?;
        let (digits, after) = rest.split_once('d')?;
        let digits = match digits {
            "" => 1,
            _ => digits.strip_prefix('0')?.parse().ok().filter(|it| (1..=DIGITS).contains(it))?,
        };
        let folder = path.parent().filter(|it| *it != Path::new("")).unwrap_or(Path::new("."));
        let plain = !after.contains('%') && !before.ends_with(|it: char| it.is_ascii_digit());
        let (before, after) = (before.to_owned(), after.to_owned());
        plain.then(|| Self { folder: folder.to_owned(), before, digits, after })
    }

    /// The same names in another folder.
    #[must_use]
    pub fn within(&self, folder: PathBuf) -> Self {
        Self { folder, ..self.clone() }
    }

    /// The file of a number.
    #[must_use]
    pub fn path(&self, number: u64) -> PathBuf {
        let Self { folder, before, digits, after } = self;
        folder.join(format!("{before}{number:0digits$}{after}", digits = *digits))
    }

    /// Number of a file's name, if it is one of these.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        let number = number(digits)?;
        (self.path(number).file_name()? == name).then_some(number)
    }

    /// The files of the folder that have such a name, by number; none where there is no folder.
    ///
    /// # Errors
    /// The system's.
    pub fn found(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found: Vec<_> =
            names(&self.folder)?.iter().filter_map(|name| self.number(name)).collect();
        found.sort_unstable();
        Ok(found.into_iter().map(|number| (number, self.path(number))).collect())
    }
}

/// All digits, and not too many.
fn number(digits: &str) -> Option<u64> {
    let plain = digits.len() <= DIGITS && digits.bytes().all(|it| it.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

/// The pictures of a folder or a pattern, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// As it was named.
    pub path: PathBuf,
    /// All of them.
    pub files: Vec<PathBuf>,
}

impl Sequence {
    /// Whether a path names pictures: a folder, or a pattern that is no file.
    #[must_use]
    pub fn is_named_by(path: &Path) -> bool {
        path.is_dir() || (Pattern::parse(path).is_some() && !path.exists())
    }

    /// Finds the pictures of a folder (all of one name and numbered) or of a pattern.
    ///
    /// # Errors
    /// [`MediaError::Read`]; [`MediaError::Unusable`] where there are fewer than two, one is missing between them, or a
    /// folder holds several sequences.
    pub fn find(path: &Path) -> Result<Self, MediaError> {
        let unreadable = |source| MediaError::Read { path: path.to_owned(), source };
        let found = match Pattern::parse(path).filter(|_| !path.is_dir()) {
            Some(pattern) => {
                let folder = |source| MediaError::Read { path: pattern.folder.clone(), source };
                fs::metadata(&pattern.folder).map_err(folder)?;
                pattern.found().map_err(folder)?
            }
            None => in_folder(path, &names(path).map_err(unreadable)?)?,
        };
        if found.len() < 2 {
            let reason = format!(
                "{} numbered pictures (PNG, JPEG, TIFF, DPX) are there, and slow motion needs at least 2",
                found.len()
            );
            return Err(unusable(path, "too_few_frames", reason));
        }
        for pair in found.windows(2) {
            let ((before, _), (next, file)) = (&pair[0], &pair[1]);
            if *next != before + 1 {
                let missing = if before + 2 == *next { "picture" } else { "the first picture" };
                let reason = format!(
                    "{missing} {} is missing before {}; add it, or number them without a gap",
                    before + 1,
                    file.display()
                );
                return Err(unusable(path, "missing_picture", reason));
            }
        }
        let files: Vec<_> = found.into_iter().map(|it| it.1).collect();
        for file in &files {
            // Opening a pipe would wait without an end.
            let kind = fs::metadata(file)
                .map_err(|source| MediaError::Read { path: file.clone(), source })?;
            if !kind.is_file() {
                return Err(unusable(file, "not_video", "it is no regular file".to_owned()));
            }
        }
        Ok(Self { path: path.to_owned(), files })
    }

    /// Puts the pictures, as they are, into a MOV file at `clip`.
    ///
    /// # Errors
    /// As [`Gathering::add`]; [`ConvertError::Interrupted`] where `stop` is set.
    pub fn gather(
        &self,
        clip: &Path,
        rate: Rate,
        stop: &Arc<AtomicBool>,
    ) -> Result<(), ConvertError> {
        let mut gathering = Gathering::create(clip, rate)?;
        for file in &self.files {
            if stop.load(Ordering::Relaxed) {
                return Err(ConvertError::Interrupted);
            }
            gathering.add(file)?;
        }
        Ok(gathering.finish()?)
    }

    /// Size of all files, and their [`hash_of_list`].
    ///
    /// # Errors
    /// As [`Fingerprint::take`].
    pub fn measure(&self, stop: &Arc<AtomicBool>) -> Result<(u64, String), ConvertError> {
        let mut size_bytes = 0;
        let mut list = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let taken = Fingerprint::take(file, stop, &mut |_| {})?;
            size_bytes += taken.size_bytes;
            list.push((taken.sha256, file.as_path()));
        }
        Ok((size_bytes, hash_of_list(&list)))
    }
}

/// SHA-256 of a list of files, in order: of what `sha256sum` prints of them within their folder.
#[must_use]
pub fn hash_of_list(list: &[(String, &Path)]) -> String {
    let mut hasher = Sha256::new();
    for (hash, path) in list {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        hasher.update(format!("{hash}  {name}\n"));
    }
    hex(&hasher.finalize())
}

/// The numbered pictures of a folder, which must be of one sequence.
fn in_folder(folder: &Path, names: &[String]) -> Result<Vec<(u64, PathBuf)>, MediaError> {
    let mut found = Vec::new();
    let mut kind: Option<(&str, &str, &str)> = None;
    for name in names {
        let Some((stem, extension)) = name.rsplit_once('.') else { continue };
        if stem.starts_with('.') || !pictures::is_picture(extension) {
            continue;
        }
        let before = stem.trim_end_matches(|it: char| it.is_ascii_digit());
        let Some(number) = number(&stem[before.len()..]) else { continue };
        let (one, other, first) = *kind.get_or_insert((before, extension, name));
        if (one, other) != (before, extension) {
            let reason = format!(
                "it holds {first} and {name}: name the pictures by a pattern, as {}",
                folder
                    .join(format!("{one}%0{}d.{other}", first.len() - one.len() - other.len() - 1))
                    .display()
            );
            return Err(unusable(folder, "several_sequences", reason));
        }
        found.push((number, folder.join(name)));
    }
    found.sort();
    if let Some(pair) = found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let reason = format!("{} and {} have one number", pair[0].1.display(), pair[1].1.display());
        return Err(unusable(folder, "several_sequences", reason));
    }
    Ok(found)
}

fn unusable(path: &Path, code: &'static str, reason: String) -> MediaError {
    MediaError::Unusable { path: path.to_owned(), code, reason }
}

/// What was written.
pub struct Written {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// Size of all of them.
    pub size_bytes: u64,
    /// Their [`hash_of_list`].
    pub sha256: String,
    /// FFmpeg's name of their pixels.
    pub pixel_format: &'static str,
    /// Width of a pixel to its height, as the pictures are turned.
    pub pixel_shape: (i32, i32),
}

/// Writes every frame of `clip` as PNG under the names of `pattern`, from [`FIRST`] on: RGB of 8 bits where the clip has 8,
/// else of 16, turned as the clip is shown, and with its samples as they are: where its pixels are not square, whoever calls
/// this says so. `source` is what the clip was made of: matrix and range of its samples are those of its first frame, of which
/// a MOV says the first alone.
///
/// # Errors
/// Those of reading and writing; [`ConvertError::Interrupted`] where `stop` is set.
pub fn write(
    clip: &Path,
    source: &Path,
    pattern: &Pattern,
    stop: &Arc<AtomicBool>,
) -> Result<Written, ConvertError> {
    let like = Decoder::open(source)?.next_frame()?.map(|it| it.picture.format);
    let mut decoder = Decoder::open(clip)?;
    let video = decoder.info().video.clone();
    let mut written = Written {
        files: Vec::new(),
        size_bytes: 0,
        sha256: String::new(),
        pixel_format: "rgb24",
        pixel_shape: shown::pixel_shape(&video),
    };
    let mut list = Vec::new();
    while let Some(mut frame) = decoder.next_frame()? {
        if let Some(PictureFormat { matrix, range, .. }) = like {
            let picture = Arc::make_mut(&mut frame.picture);
            picture.format = PictureFormat { matrix, range, ..picture.format };
        }
        if stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Interrupted);
        }
        let path = pattern.path(FIRST + frame.index);
        let image = shown::turned(shown::frame(&frame), &video);
        written.pixel_format = match image.color() {
            ColorType::Rgba8 => "rgba",
            ColorType::Rgb16 => "rgb48be",
            ColorType::Rgba16 => "rgba64be",
            _ => "rgb24",
        };
        let saved = image.save_with_format(&path, ImageFormat::Png);
        saved.map_err(|error| beside::write_error(&path, io::Error::other(error)))?;
        let taken = Fingerprint::take(&path, stop, &mut |_| {})?;
        written.size_bytes += taken.size_bytes;
        list.push((taken.sha256, path));
    }
    let of: Vec<_> = list.iter().map(|(hash, path)| (hash.clone(), path.as_path())).collect();
    written.sha256 = hash_of_list(&of);
    written.files = list.into_iter().map(|it| it.1).collect();
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_ffmpeg() {
        let pattern = Pattern::parse(Path::new("in/shot_%05d.png")).unwrap();
        assert_eq!(pattern.path(42), Path::new("in/shot_00042.png"));
        assert_eq!(pattern.path(1_234_567), Path::new("in/shot_1234567.png"));
        assert_eq!(pattern.number("shot_00042.png"), Some(42));
        for other in ["shot_42.png", "shot_00042.jpg", "shot_000042.png", "shot_0004x.png"] {
            assert_eq!(pattern.number(other), None, "{other}");
        }
        let plain = Pattern::parse(Path::new("%d.png")).unwrap();
        assert_eq!(plain.path(7), Path::new("./7.png"));
        for none in
            ["a.png", "a%5d.png", "a%0d.png", "a%d%d.png", "a%03d%.png", "a%s.png", "%099d.png"]
        {
            assert_eq!(Pattern::parse(Path::new(none)), None, "{none}");
        }
    }
}
