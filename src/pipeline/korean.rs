//! What warnings say in Korean, by their code; the figures of each are in the sentence of the report itself.

/// The sentence of a code; `None` for one that has none, which is then shown as it is.
#[must_use]
pub fn warning(code: &str) -> Option<&'static str> {
    WARNINGS.iter().find(|it| it.0 == code).map(|it| it.1)
}

/// Every code that a finished conversion can have.
const WARNINGS: &[(&str, &str)] = &[
    (
        "alpha_blended",
        "투명도를 유지했습니다. 합성 프레임의 투명도는 앞뒤 실제 프레임의 값을 섞은 것이며, 화면의 움직임을 따르지 않습니다.",
    ),
    ("alpha_dropped", "투명도가 없어졌습니다. 투명도를 유지하려면 ffv1 코덱을 쓰세요."),
    (
        "alpha_stored_wider",
        "인코더가 이런 화면과 투명도를 함께 받지 않아 더 넓은 형식으로 저장했습니다. 모든 샘플이 유지됩니다.",
    ),
    ("barriers", "원본에 복호할 수 없는 구간이 있어, 그 구간에는 아무것도 합성하지 않았습니다."),
    ("barriers_cut", "복호할 수 없는 구간이 너무 많아 앞부분만 목록에 있습니다."),
    ("bit_depth_reduced", "샘플당 비트 수가 줄었습니다."),
    (
        "boxes_dropped",
        "트랙 밖에 있는 자료 가운데 너무 커서 출력 옆에 기록하지 못한 것이 있습니다.",
    ),
    ("changes_cut", "섬광과 페이드가 너무 많아 앞부분만 목록에 있습니다."),
    ("channels_change", "소리의 채널 배치가 도중에 바뀌어, 전체를 결과의 배치 하나로 섞었습니다."),
    ("channels_reduced", "AAC에 없는 채널 배치라 소리의 채널 수가 줄었습니다."),
    ("chapters_dropped", "첫 화면보다 앞서거나 길이가 없는 챕터는 빠졌습니다."),
    (
        "chroma_444",
        "크기가 홀수라 4:4:4로 인코딩했습니다. 모든 샘플이 유지되지만 재생하지 못하는 플레이어가 있습니다.",
    ),
    ("chroma_reduced", "인코더가 받는 4:2:0으로 색상 해상도가 줄었습니다."),
    (
        "color_untagged",
        "그림의 값은 원본의 색 공간(HDR 또는 광색역) 그대로이지만 파일에는 그 표시가 없습니다. 여는 프로그램에서 정하세요.",
    ),
    ("comparison_large", "비교 영상이 메일로 보내기에는 큽니다."),
    (
        "cuts_outside",
        "장면 전환 목록에 클립의 끝보다 뒤에 있는 시각이 있습니다. 이 클립의 목록인지 확인하세요.",
    ),
    ("cuts_cut", "장면 전환이 너무 많아 앞부분만 목록에 있습니다."),
    (
        "deinterlaced",
        "비월 주사 영상이라 bwdif로 온전한 화면을 만들었으며, 그 화면을 실제 프레임으로 셉니다.",
    ),
    ("device_fallback", "요청한 장치를 쓸 수 없어 다른 장치에서 작업했습니다."),
    ("device_step", "장치의 메모리나 오류 때문에 작업 방식을 한 단계 낮추었습니다."),
    (
        "encoder_on_gpu",
        "GPU 인코더가 결과를 만들었습니다. 같은 화면으로 같은 결과를 다시 만드는지는 알 수 없습니다.",
    ),
    (
        "frame_data_dropped",
        "원본 프레임에 딸린 자료(자막 신호, 동적 HDR 등) 가운데 결과에 없는 것이 있습니다.",
    ),
    ("frame_map_cut", "프레임 지도가 너무 길어 앞부분만 보고서에 있습니다."),
    (
        "frames_missing",
        "원본에 손상은 없지만 프레임이 기록되지 않은 구간이 있어, 그 구간에는 아무것도 합성하지 않았습니다.",
    ),
    ("gaps_cut", "프레임이 기록되지 않은 구간이 너무 많아 앞부분만 목록에 있습니다."),
    ("interlaced", "비월 주사 화면의 두 필드를 한 화면으로 보고 작업했습니다."),
    ("level_high", "결과를 재생하지 못하는 기기가 많을 수 있습니다."),
    ("mask_outside", "마스크가 화면 밖에 있어 아무것도 가리지 않습니다."),
    ("masks_not_measured", "마스크가 화면을 거의 다 가려 품질을 재지 않았습니다."),
    (
        "matrix_assumed",
        "원본의 색 행렬을 직접 다루지 않아 가까운 행렬로 계산했습니다. 결과의 색 태그는 원본과 같습니다.",
    ),
    ("metadata_dropped", "컨테이너가 받지 않는 메타데이터 항목이 있습니다."),
    ("model_note", "신경망의 동작 가운데 원저자의 프로그램과 다르게 하는 부분이 있습니다."),
    (
        "overlays_undecided",
        "화면에 새겨진 글자를 찾으려 했으나, 클립 첫머리의 움직임이 적어 판단할 수 없습니다.",
    ),
    ("pixel_format_converted", "작업하기 전에 픽셀 형식을 바꾸었습니다."),
    (
        "pixels_not_square",
        "원본의 화소가 정사각형이 아닙니다. 그림에는 화소를 그대로 썼으므로, 볼 때 화면 비율을 맞추어야 합니다.",
    ),
    (
        "programs_dropped",
        "전송 스트림에서 그림과 다른 프로그램에 속한 소리나 자막 등은 결과에 넣지 않았습니다.",
    ),
    (
        "range_untagged",
        "mov에는 FFV1 값의 범위를 적을 수 없어 플레이어가 명암을 다르게 보여 줄 수 있습니다. 값은 원본 그대로이며, mkv에는 범위가 적힙니다.",
    ),
    ("rate_was_said", "초당 프레임 수는 파일이 아니라 사용자가 정한 값입니다."),
    ("rgb_video", "RGB 그대로 인코딩했습니다. 재생하지 못하는 플레이어가 많습니다."),
    ("rotation_lost", "이 컨테이너에는 회전 정보를 쓸 수 없습니다. mp4나 mov를 쓰세요."),
    (
        "segment_gap",
        "파일 이름으로 보아 같은 카메라의 앞뒤 클립 사이에 기록되지 않았거나 빠진 시간이 있습니다.",
    ),
    ("side_data_dropped", "컨테이너가 받지 않아 구형(360°) 또는 입체 영상 정보가 빠졌습니다."),
    ("size_padded", "인코더가 짝수 크기만 받아, 마지막 열이나 행을 한 번 더 넣었습니다."),
    ("sound_damaged", "소리의 일부가 손상되었습니다."),
    ("sound_dropped", "첫 화면보다 앞선 소리는 결과에 없습니다."),
    ("source_damaged", "원본에 손상된 프레임이 있습니다."),
    (
        "stills_outside",
        "정지 화면으로 정한 시각이 클립의 끝보다 뒤라서 마지막 프레임들을 남겼습니다.",
    ),
    ("stream_dropped", "결과에 담지 못한 스트림이 빠졌습니다."),
    ("subtitles_dropped", "첫 화면보다 앞서 끝나는 자막은 빠졌습니다."),
    (
        "tags_change",
        "원본의 화소 모양이나 색 태그가 도중에 바뀌지만, 결과는 전체를 처음 값으로 표시합니다.",
    ),
    (
        "time_code_dropped",
        "원본의 타임코드는 원본 프레임을 세는 값이므로 결과에는 넣지 않았습니다. 시작 값은 보고서에 있습니다.",
    ),
    (
        "timelapse_suspected",
        "원본이 타임랩스로 보입니다. 화면 사이에 합성된 것은 실제로 일어난 일이 아닙니다.",
    ),
    (
        "times_lost",
        "원본의 프레임 간격이 일정하지 않은데 그림에는 시각이 없습니다. --fps로 일정한 간격을 정하세요.",
    ),
    ("times_repaired", "원본에 시각이 없거나 순서가 어긋난 프레임이 있어 시각을 바로잡았습니다."),
    (
        "unsure_not_measured",
        "hold_below보다 불확실한 구간에는 아무것도 합성하지 않았으며, 품질 수치도 그 구간을 뺀 값입니다.",
    ),
    ("vmaf_missing", "VMAF를 재도록 설정했으나, 재지 못한 프레임이 있습니다."),
];
