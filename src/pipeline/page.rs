//! A page to read beside the report: one file that needs nothing else, in Korean or English by the reader's language.
//!
//! Everything is in the text: the comparison, the curves, the figures. Without scripts it is in English.

use std::fmt::Write as _;
use std::path::Path;

use crate::config::settings::Codec;
use crate::pipeline::{chart, korean};
use crate::report::base64;
use crate::report::measured::Scores;
use crate::report::provenance::{Condition, Repeatable};
use crate::report::{Notice, Report};

/// Largest comparison that goes into the page.
const LARGEST_CLIP_BYTES: u64 = 24 << 20;

/// What the page looks like.
const STYLE: &str = include_str!("page.css");
/// Picks the language.
const SCRIPT: &str = include_str!("page.js");

/// Bytes of a page without its comparison at the most: what it lists has limits.
const LARGEST_TEXT_BYTES: u64 = 1 << 20;

/// Bytes that a page takes at the most whose comparison has `comparison_bytes` at the most.
#[must_use]
pub fn most_bytes(comparison_bytes: u64) -> u64 {
    LARGEST_TEXT_BYTES + comparison_bytes.min(LARGEST_CLIP_BYTES).div_ceil(3) * 4
}

/// The page of a report; `comparison` is a clip that was made for it.
///
/// # Errors
/// The system's, of reading the clip.
pub fn page(report: &Report, comparison: Option<&Path>) -> std::io::Result<String> {
    let mut html = String::new();
    let name = Path::new(&report.source.path).file_name().unwrap_or_default().to_string_lossy();
    let name = escaped(&name);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name} · slomod</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{name}</h1>\n\
         <nav><button data-lang=\"en\">English</button><button data-lang=\"ko\">한국어</button></nav>\n</header>\n<main>\n"
    );
    html += &summary(report);
    html += &encoded_again(report);
    if let Some(clip) = comparison {
        html += &video(clip)?;
    }
    html += &curves(report);
    html += &figures(report);
    html += &warnings(report);
    html += &provenance(report);
    let _ = write!(
        html,
        "<p class=\"disclaimer\">{}</p>\n</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        both(
            &escaped(&report.disclaimer),
            "합성된 프레임은 보기 위한 보조 자료입니다. 기록된 것이 아니라 계산된 것이므로, 위치·거리·속도·접촉 시점을 \
             여기서 읽어서는 안 됩니다. 원본 영상이 기록입니다."
        )
    );
    Ok(html)
}

/// The same in both languages; the style shows one.
fn both(english: &str, korean: &str) -> String {
    format!("<span lang=\"en\">{english}</span><span lang=\"ko\">{korean}</span>")
}

fn summary(report: &Report) -> String {
    let Some(output) = &report.output else { return String::new() };
    let frames = output.frames;
    let psnr = report.quality.as_ref().and_then(|it| it.holdout.network.psnr_rgb_db);
    let mut cards = vec![
        (number(frames.total as f64, 0), both("frames", "프레임")),
        (number(frames.real as f64, 0), both("real", "실제")),
        (number((frames.synthesised + frames.repaired) as f64, 0), both("made", "합성")),
        (number(frames.held as f64, 0), both("held", "정지")),
    ];
    if let Some(psnr) = psnr {
        cards.push((format!("{psnr:.1} dB"), both("PSNR, held-out", "PSNR(검증 프레임)")));
    }
    if let Some(ssim) = report.quality.as_ref().and_then(|it| it.holdout.network.ssim_y) {
        cards.push((format!("{ssim:.3}"), both("SSIM, held-out", "SSIM(검증 프레임)")));
    }
    let mean = report.interpolation.as_ref().and_then(|it| it.confidence.mean);
    if let Some(mean) = mean {
        cards.push((format!("{mean:.2}"), both("confidence", "신뢰도")));
    }
    if let Some(fps) = report.timing.end_to_end_fps {
        cards.push((format!("{fps:.1}"), both("frames a second", "초당 처리 프레임")));
    }
    let card = |(value, name): &(String, String)| {
        format!("<div class=\"card\"><b>{value}</b>{name}</div>\n")
    };
    format!("<section class=\"cards\">\n{}</section>\n", cards.iter().map(card).collect::<String>())
}

/// That real frames are the source's before the encoder and not behind it, where that is lossy.
fn encoded_again(report: &Report) -> String {
    let measured = report.quality.as_ref().and_then(|it| it.encode.as_ref());
    let is_equal = measured.is_some_and(|it| it.scores.identical);
    let is_lossy = report.output.as_ref().is_some_and(|output| match output.real_frames {
        Some(real) => real.identical < real.compared,
        None => output.encoder != Codec::Ffv1.name() && !is_equal,
    });
    let note = both(
        "Real frames are the source's, encoded again with loss: near to it, not equal. How near, the row of the encoder alone \
         says below.",
        "실제 프레임은 원본을 복호한 그대로이며, 손실 압축으로 다시 인코딩되었습니다. 파일 안에서는 원본에 가깝지만 똑같지는 \
         않습니다. 얼마나 가까운지는 인코더만의 수치에 있습니다.",
    );
    if is_lossy { format!("<p class=\"note\">{note}</p>\n") } else { String::new() }
}

fn video(clip: &Path) -> std::io::Result<String> {
    let size_bytes = std::fs::metadata(clip)?.len();
    if size_bytes > LARGEST_CLIP_BYTES {
        let mib = size_bytes.div_ceil(1 << 20);
        return Ok(format!(
            "<section>\n<h2>{}</h2>\n<p class=\"note\">{}</p>\n</section>\n",
            both("Original and result", "원본과 결과"),
            both(
                &format!(
                    "The comparison is too large for this page ({mib} MiB): it lies beside it as a file of its own, whose name ends in .compare.mp4."
                ),
                &format!(
                    "비교 영상이 이 페이지에 담기에는 너무 커서({mib} MiB) 이름이 .compare.mp4로 끝나는 파일로 옆에 있습니다."
                ),
            )
        ));
    }
    let data = base64::encode(&std::fs::read(clip)?);
    Ok(format!(
        "<section>\n<h2>{}</h2>\n<video controls loop muted autoplay playsinline \
         src=\"data:video/mp4;base64,{data}\"></video>\n<p class=\"note\">{}</p>\n</section>\n",
        both("Original and result", "원본과 결과"),
        both(
            "The seconds with the strongest motion. Both sides show the same instants.",
            "움직임이 가장 큰 구간입니다. 양쪽은 같은 순간을 보여 줍니다."
        )
    ))
}

fn curves(report: &Report) -> String {
    let Some(svg) = chart::svg(report) else { return String::new() };
    let key = |class: &str, text: String| format!("<span class=\"key {class}\"></span>{text} ");
    let keys = [
        key("psnr", both("PSNR (left, dB)", "PSNR(왼쪽, dB)")),
        key("ssim", both("SSIM (right)", "SSIM(오른쪽)")),
        key("sure", both("confidence", "신뢰도")),
        key("low", both("low confidence", "낮은 신뢰도")),
        key("cut", both("cut", "장면 전환")),
        key("change", both("flash or fade", "섬광·페이드")),
        key("barrier", both("cannot be decoded or not recorded", "복호할 수 없거나 기록되지 않음")),
    ];
    format!(
        "<section>\n<h2>{}</h2>\n<figure>{svg}<figcaption>{}</figcaption></figure>\n<p class=\"note\">{}</p>\n</section>\n",
        both("Quality over time", "시간에 따른 품질"),
        keys.concat(),
        both(
            "PSNR and SSIM are of real frames that were predicted from their neighbors: the network saw twice the motion \
             of the real job there, so the true quality is better. Confidence is estimated for every gap between two real \
             frames.",
            "PSNR과 SSIM은 실제 프레임을 앞뒤 프레임으로 예측해 비교한 값입니다. 이때 신경망이 보는 움직임은 실제 작업의 \
             두 배이므로, 실제 품질은 이보다 좋습니다. 신뢰도는 두 실제 프레임 사이마다 추정한 값입니다."
        )
    )
}

fn figures(report: &Report) -> String {
    let mut rows = String::new();
    if let Some(quality) = &report.quality {
        let holdout = &quality.holdout;
        let vmaf = holdout.network.vmaf.is_some();
        let scores = |name: &str, it: &Scores| {
            let cell = it.vmaf.map_or("–".into(), |it| format!("{it:.1}"));
            scores(name, it, vmaf.then_some(cell))
        };
        if holdout.samples > 0 {
            rows += &scores(&both("network", "신경망"), &holdout.network);
            rows += &scores(&both("blending both neighbors", "앞뒤 프레임 혼합"), &holdout.blend);
            rows +=
                &scores(&both("repeating the earlier frame", "앞 프레임 반복"), &holdout.repeat);
        }
        if let Some(encode) = &quality.encode {
            rows += &scores(&both("the encoder alone", "인코더만"), &encode.scores);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let measured = report.quality.as_ref().and_then(|it| it.holdout.network.vmaf);
    let vmaf = measured.map_or("", |_| "<th>VMAF</th>");
    format!(
        "<section>\n<h2>{}</h2>\n<div class=\"wide\"><table>\n<tr><th></th><th>PSNR RGB</th><th>{}</th><th>{}</th>\
         <th>PSNR Y</th><th>SSIM</th><th>SSIM (RIFE)</th>{vmaf}</tr>\n{rows}</table></div>\n</section>\n",
        both("Figures", "수치"),
        both("lowest", "최저"),
        both("of the mean error", "평균 오차 기준"),
    )
}

/// A row of figures, VMAF's cell behind them where the table has that column.
fn scores(name: &str, scores: &Scores, vmaf: Option<String>) -> String {
    let db = |value: Option<f64>| match value {
        Some(value) => format!("{value:.2} dB"),
        None if scores.identical => both("exact", "일치"),
        None => "–".into(),
    };
    let part = |value: Option<f64>| value.map_or("–".into(), |it| format!("{it:.4}"));
    let cells = [
        db(scores.psnr_rgb_db),
        db(scores.psnr_rgb_min_db),
        db(scores.psnr_rgb_pooled_db),
        db(scores.psnr_y_db),
        part(scores.ssim_y),
        part(scores.ssim_rife),
    ];
    let cells: String = cells.iter().chain(&vmaf).map(|it| format!("<td>{it}</td>")).collect();
    format!("<tr><th>{name}</th>{cells}</tr>\n")
}

fn warnings(report: &Report) -> String {
    if report.warnings.is_empty() {
        return String::new();
    }
    let item = |code: &str, message: &str| {
        let english = escaped(message);
        let text = match korean::warning(code) {
            Some(korean) => both(&english, korean),
            None => english,
        };
        format!("<li>{text} <code>{}</code></li>\n", escaped(code))
    };
    let items: String = report.warnings.iter().map(|it| item(&it.code, &it.message)).collect();
    format!("<section>\n<h2>{}</h2>\n<ul>\n{items}</ul>\n</section>\n", both("Warnings", "주의"))
}

fn provenance(report: &Report) -> String {
    let mut rows = Vec::new();
    let mut row = |name: String, value: String| {
        if !value.is_empty() {
            rows.push(format!("<tr><th>{name}</th><td>{value}</td></tr>\n"));
        }
    };
    let hash = |it: &Option<String>| {
        it.as_ref().map_or(String::new(), |it| format!("<code>{}</code>", escaped(it)))
    };
    let source = &report.source;
    row(both("source", "원본"), escaped(&source.path));
    row(both("source, SHA-256", "원본 SHA-256"), hash(&source.sha256));
    row(both("source afterwards", "작업 후 원본"), hash(&source.sha256_after));
    let capture = &source.capture;
    row(
        both("camera, by the file's name", "파일 이름으로 본 카메라"),
        [&capture.name_pattern, &capture.kind, &capture.view, &capture.started_local]
            .into_iter()
            .flatten()
            .map(|it| escaped(it))
            .collect::<Vec<_>>()
            .join(", "),
    );
    if let Some(output) = &report.output {
        row(both("result, SHA-256", "결과 SHA-256"), hash(&Some(output.sha256.clone())));
        row(
            both("encoder", "인코더"),
            escaped(&format!("{} {}", output.encoder, output.encoder_options)),
        );
        if let Some(real) = output.real_frames {
            row(
                both("real frames, bit for bit", "비트 단위로 같은 실제 프레임"),
                format!("{} / {}", real.identical, real.compared),
            );
        }
        row(
            both("another run makes the same frames", "다시 작업하면 같은 프레임"),
            output.repeatable.as_ref().map_or_else(String::new, repeatable),
        );
    }
    if let Some(model) = &report.model {
        row(both("network", "신경망"), escaped(&model.name));
        row(both("weights, SHA-256", "가중치 SHA-256"), hash(&model.sha256));
    }
    if let Some(device) = &report.device {
        row(both("device", "장치"), escaped(&format!("{} ({})", device.name, device.precision)));
    }
    row(both("settings, SHA-256", "설정 SHA-256"), hash(&report.settings_sha256));
    row(
        both("made by", "작성"),
        escaped(&format!(
            "{} {}, FFmpeg {}, {}, {}",
            report.tool.name,
            report.tool.version,
            report.tool.ffmpeg,
            report.host.name,
            report.created
        )),
    );
    format!(
        "<section>\n<h2>{}</h2>\n<div class=\"wide\"><table class=\"facts\">\n{}</table></div>\n</section>\n",
        both("Provenance", "출처"),
        rows.concat()
    )
}

fn repeatable(found: &Repeatable) -> String {
    if found.same_frames {
        let given = |it: &Condition| {
            let name = match it.what.as_str() {
                "instructions" => both("instructions of the processor", "프로세서 명령어"),
                "network_threads" => both("threads of the network", "신경망 스레드"),
                "device" => both("device", "장치"),
                "encoder_cores" => both("cores", "코어"),
                other => escaped(other),
            };
            format!("{name} {}", escaped(&it.value))
        };
        let given: Vec<_> = found.given.iter().map(given).collect();
        let yes = both("yes, with the same:", "예. 다음이 같을 때:");
        return format!("{yes} {}", given.join("; "));
    }
    let reason = |it: &Notice| {
        let english = escaped(&it.message);
        korean::warning(&it.code).map_or(english.clone(), |korean| both(&english, korean))
    };
    let reasons: Vec<_> = found.reasons.iter().map(reason).collect();
    format!("{} {}", both("not for certain:", "확실하지 않음:"), reasons.join("; "))
}

/// With a thin space between thousands.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    if part.is_empty() { grouped } else { format!("{grouped}.{part}") }
}

/// Text in HTML: names of files can hold anything.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_write_into_the_page() {
        assert_eq!(
            escaped("<script>\"a\" & 'b'</script>"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;"
        );
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(number(1_234_567.0, 0), "1\u{202f}234\u{202f}567");
        assert_eq!(number(12.345, 1), "12.3");
    }
}
