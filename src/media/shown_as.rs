//! What pictures say of how they are to be shown: the shape of their pixels and what their colors mean. An output says it once
//! for all of them.

use ffmpeg_next as ffmpeg;

use ffmpeg::color::{Primaries, Range, Space, TransferCharacteristic};
use ffmpeg::frame::Video;

use super::raw::{self, Tags};

/// What the pictures so far say. One that says nothing of something changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShownAs {
    aspect: Option<(i32, i32)>,
    matrix: Option<Space>,
    primaries: Option<Primaries>,
    transfer: Option<TransferCharacteristic>,
    range: Option<Range>,
}

impl ShownAs {
    fn of(frame: &Video) -> Self {
        let aspect = raw::positive(frame.aspect_ratio());
        let narrow = |it: i128| i32::try_from(it).unwrap_or_default();
        Self {
            aspect: aspect.map(|it| (narrow(*it.numer()), narrow(*it.denom()))),
            matrix: Some(frame.color_space()).filter(|it| *it != Space::Unspecified),
            primaries: Some(frame.color_primaries()).filter(|it| {
                !matches!(it, Primaries::Unspecified | Primaries::Reserved0 | Primaries::Reserved)
            }),
            transfer: Some(frame.color_transfer_characteristic()).filter(|it| {
                use TransferCharacteristic as T;
                !matches!(it, T::Unspecified | T::Reserved0 | T::Reserved)
            }),
            range: Some(frame.color_range()).filter(|it| *it != Range::Unspecified),
        }
    }

    /// Takes the next picture; what it says otherwise than those before.
    pub(super) fn take(&mut self, frame: &Video) -> Option<String> {
        self.follow(Self::of(frame))
    }

    fn follow(&mut self, new: Self) -> Option<String> {
        let all = [
            change("pixels", &mut self.aspect, new.aspect, |it| format!("{}:{}", it.0, it.1)),
            change("matrix", &mut self.matrix, new.matrix, |it| {
                name(0, of(|to| to.matrix = it.into()))
            }),
            change("primaries", &mut self.primaries, new.primaries, |it| {
                name(1, of(|to| to.primaries = it.into()))
            }),
            change("transfer", &mut self.transfer, new.transfer, |it| {
                name(2, of(|to| to.transfer = it.into()))
            }),
            change("range", &mut self.range, new.range, |it| {
                name(3, of(|to| to.range = it.into()))
            }),
        ];
        let said: Vec<_> = all.into_iter().flatten().collect();
        (!said.is_empty()).then(|| said.join(", "))
    }
}

/// What is said of something where it was said otherwise; what was not said yet is taken over.
fn change<T: Copy + PartialEq>(
    what: &str,
    known: &mut Option<T>,
    new: Option<T>,
    text: impl Fn(T) -> String,
) -> Option<String> {
    let new = new?;
    let old = *known.get_or_insert(new);
    (old != new).then(|| format!("{what} {} instead of {}", text(new), text(old)))
}

/// Tags of which `set` sets one.
fn of(set: impl Fn(&mut Tags)) -> Tags {
    let mut tags = Tags::UNKNOWN;
    set(&mut tags);
    tags
}

/// FFmpeg's name of the tag with that number.
fn name(number: usize, tags: Tags) -> String {
    raw::tag_names(&tags)[number].clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pictures_say_otherwise_is_named_and_silence_is_no_change() {
        let mut shown = ShownAs::default();
        let first = ShownAs { aspect: Some((16, 11)), ..ShownAs::default() };
        let tagged = ShownAs { matrix: Some(Space::BT709), ..first };
        for same in [ShownAs::default(), first, ShownAs::default(), tagged, first] {
            assert_eq!(shown.follow(same), None, "{same:?}");
        }
        let other = ShownAs { aspect: Some((1, 1)), matrix: Some(Space::BT470BG), ..first };
        let said = "pixels 1:1 instead of 16:11, matrix bt470bg instead of bt709";
        assert_eq!(shown.follow(other).as_deref(), Some(said));
    }
}
