//! Programs of a transport stream: which of its streams belong together.

use ffmpeg_next as ffmpeg;

use ffmpeg::format::context::Input;

/// One program.
pub(super) struct Program {
    /// Its number in the transport stream.
    number: i32,
    streams: Vec<usize>,
}

/// All programs of a container; none where it has no such thing.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
pub(super) fn programs(input: &Input) -> Vec<Program> {
    // SAFETY: the context is open and outlives the borrow.
    let context = unsafe { &*input.as_ptr() };
    let count = usize::try_from(context.nb_programs).unwrap_or(0);
    let read = |at: usize| {
        // SAFETY: the context has that many programs, each of which lives as long as it does.
        let program = unsafe { &**context.programs.add(at) };
        let streams = usize::try_from(program.nb_stream_indexes).unwrap_or(0);
        let stream = |at: usize| {
            // SAFETY: the program names that many streams.
            let index = unsafe { *program.stream_index.add(at) };
            usize::try_from(index).unwrap_or(usize::MAX)
        };
        Program { number: program.program_num, streams: (0..streams).map(stream).collect() }
    };
    (0..count).map(read).collect()
}

/// The program of `stream` where that is not one of the picture's: what was sent together is shown together. A stream may
/// be in several programs, and one that is in none is everybody's.
pub(super) fn other_program(programs: &[Program], picture: usize, stream: usize) -> Option<i32> {
    let of = |index: usize| programs.iter().filter(move |it| it.streams.contains(&index));
    let is_shared = of(picture).any(|it| it.streams.contains(&stream));
    let other = of(stream).next().filter(|_| of(picture).next().is_some() && !is_shared);
    other.map(|it| it.number)
}

/// The warning of streams that are left out, as the picture is of another program.
pub(super) fn dropped(streams: &[usize], picture: usize) -> Option<(String, String)> {
    let others: Vec<_> = streams.iter().map(usize::to_string).collect();
    let others = others.join(", ");
    let message =
        format!("stream(s) {others} belong to other programs than the picture, stream {picture}");
    (!streams.is_empty()).then(|| ("programs_dropped".to_owned(), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_no_program_and_of_several_are_no_others() {
        let program = |number, streams: &[usize]| Program { number, streams: streams.into() };
        let programs = [program(1, &[0, 1, 4]), program(2, &[2, 3, 4])];
        let of = |picture| [0, 1, 2, 3, 4, 5].map(|it| other_program(&programs, picture, it));
        assert_eq!(of(2), [Some(1), Some(1), None, None, None, None]);
        assert_eq!(of(0), [None, None, Some(2), Some(2), None, None]);
        assert_eq!(of(4), [None; 6]);
        assert_eq!(of(5), [None; 6], "a picture of no program has all streams");
    }
}
