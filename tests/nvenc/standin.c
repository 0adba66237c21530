// Stands in for NVIDIA's driver where there is none: `libcuda.so.1` as far as FFmpeg's NVENC wrapper wants it, and
// `libnvidia-encode.so.1`, which encodes without loss by libx264 or libx265, so that what comes out shows what went in. It is built
// against the interface's header (package libffmpeg-nvenc-dev) and libx265's: that one cannot be opened through libavcodec while
// libavcodec opens another encoder, as it does here.
//
// STANDIN_LOG: a file to which it writes a line for what it was asked. STANDIN_REFUSE: the call that fails
// ("session": as where too many are open). As the real one it takes no picture below 145x49 pixels, no 10 bits in H.264, and
// by its presets reorders pictures unless it is told not to.
#include <ffnvcodec/nvEncodeAPI.h>

#include <libavcodec/avcodec.h>
#include <libavutil/opt.h>
#include <x265.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void note(const char *format, ...) {
    const char *path = getenv("STANDIN_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    va_list values;
    va_start(values, format);
    vfprintf(file, format, values);
    va_end(values);
    fputc('\n', file);
    fclose(file);
}

static int refuses(const char *what) {
    const char *refused = getenv("STANDIN_REFUSE");
    return refused && !strcmp(refused, what);
}

// ---- libcuda ----

enum { DEVICES = 2 };

int cuInit(unsigned flags) { return flags ? 1 : 0; }
int cuDeviceGetCount(int *count) { return *count = DEVICES, 0; }
int cuDeviceGet(int *device, int number) { return *device = number, 0; }
int cuDeviceGetName(char *name, int length, int device) { return snprintf(name, length, "stand-in %d", device), 0; }
int cuDeviceComputeCapability(int *major, int *minor, int device) { return *major = 7, *minor = 5, device < 0; }
int cuCtxCreate_v2(void **context, unsigned flags, int device) { return *context = (void *)(size_t)(device + 1), (int)flags & 0; }
int cuCtxPushCurrent_v2(void *context) { return !context; }
int cuCtxPopCurrent_v2(void **context) { return context ? (*context = NULL, 0) : 0; }

// Never called, but looked for.
#define UNUSED(name) int name(void) { return 801; }
UNUSED(cuDeviceGetAttribute) UNUSED(cuCtxSetLimit) UNUSED(cuMemAlloc_v2) UNUSED(cuMemAllocPitch_v2) UNUSED(cuMemAllocManaged)
UNUSED(cuMemsetD8Async) UNUSED(cuMemFree_v2) UNUSED(cuMemcpy) UNUSED(cuMemcpyAsync) UNUSED(cuMemcpy2D_v2)
UNUSED(cuMemcpy2DAsync_v2) UNUSED(cuMemcpyHtoD_v2) UNUSED(cuMemcpyHtoDAsync_v2) UNUSED(cuMemcpyDtoH_v2)
UNUSED(cuMemcpyDtoHAsync_v2) UNUSED(cuMemcpyDtoD_v2) UNUSED(cuMemcpyDtoDAsync_v2) UNUSED(cuGetErrorName)
UNUSED(cuGetErrorString) UNUSED(cuCtxGetDevice) UNUSED(cuDevicePrimaryCtxRetain) UNUSED(cuDevicePrimaryCtxRelease)
UNUSED(cuDevicePrimaryCtxSetFlags) UNUSED(cuDevicePrimaryCtxGetState) UNUSED(cuDevicePrimaryCtxReset) UNUSED(cuStreamCreate)
UNUSED(cuStreamQuery) UNUSED(cuStreamSynchronize) UNUSED(cuStreamDestroy_v2) UNUSED(cuStreamAddCallback) UNUSED(cuEventCreate)
UNUSED(cuEventDestroy_v2) UNUSED(cuEventSynchronize) UNUSED(cuEventQuery) UNUSED(cuEventRecord) UNUSED(cuLaunchKernel)
UNUSED(cuLinkCreate) UNUSED(cuLinkAddData) UNUSED(cuLinkComplete) UNUSED(cuLinkDestroy) UNUSED(cuModuleLoadData)
UNUSED(cuModuleUnload) UNUSED(cuModuleGetFunction) UNUSED(cuModuleGetGlobal) UNUSED(cuTexObjectCreate)
UNUSED(cuTexObjectDestroy) UNUSED(cuGLGetDevices_v2) UNUSED(cuGraphicsGLRegisterImage) UNUSED(cuGraphicsUnregisterResource)
UNUSED(cuGraphicsMapResources) UNUSED(cuGraphicsUnmapResources) UNUSED(cuGraphicsSubResourceGetMappedArray)
UNUSED(cuGraphicsResourceGetMappedPointer_v2) UNUSED(cuArray3DCreate_v2) UNUSED(cuArrayDestroy)
int cuCtxDestroy_v2(void *context) { return !context; }

// ---- libnvidia-encode ----

typedef struct {
    AVCodecContext *h264;
    const x265_api *x265;
    x265_param *settings;
    x265_encoder *hevc;
    NV_ENC_CONFIG config;
    enum AVPixelFormat format;
    int width, height, is_hevc, device;
} Session;

typedef struct {
    unsigned char *data;
    NV_ENC_BUFFER_FORMAT format;
    int pitch;
} Surface;

typedef struct {
    unsigned char *data;
    size_t size;
    unsigned long long time;
    int is_key;
} Bits;

static int same(GUID a, GUID b) { return !memcmp(&a, &b, sizeof a); }

static NVENCSTATUS open_session(NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS *in, void **session) {
    if (refuses("session")) return NV_ENC_ERR_OUT_OF_MEMORY;
    Session *it = calloc(1, sizeof *it);
    it->device = (int)(size_t)in->device - 1;
    *session = it;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS guid_count(void *session, uint32_t *count) { return *count = 2, session ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC; }

static NVENCSTATUS guids(void *session, GUID *out, uint32_t size, uint32_t *count) {
    if (!session || size < 2) return NV_ENC_ERR_GENERIC;
    out[0] = NV_ENC_CODEC_H264_GUID, out[1] = NV_ENC_CODEC_HEVC_GUID;
    *count = 2;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS caps(void *session, GUID codec, NV_ENC_CAPS_PARAM *asked, int *value) {
    int is_hevc = same(codec, NV_ENC_CODEC_HEVC_GUID);
    switch (asked->capsToQuery) {
        case NV_ENC_CAPS_WIDTH_MAX:
        case NV_ENC_CAPS_HEIGHT_MAX: *value = is_hevc ? 8192 : 4096; break;
        case NV_ENC_CAPS_SUPPORT_10BIT_ENCODE: *value = is_hevc; break;
        case NV_ENC_CAPS_SUPPORT_YUV444_ENCODE: *value = 1; break;
        case NV_ENC_CAPS_NUM_MAX_BFRAMES: *value = 4; break;
        default: *value = 0;
    }
    return session ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC;
}

static NVENCSTATUS preset(void *session, GUID codec, GUID preset, NV_ENC_TUNING_INFO tuning, NV_ENC_PRESET_CONFIG *out) {
    (void)codec, (void)tuning;
    note("preset p%d", same(preset, NV_ENC_PRESET_P5_GUID) ? 5 : same(preset, NV_ENC_PRESET_P1_GUID) ? 1 : 0);
    out->presetCfg.gopLength = 250;
    out->presetCfg.frameIntervalP = 3;
    out->presetCfg.rcParams.averageBitRate = 5000000;
    return session ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC;
}

static NVENCSTATUS initialize(void *session, NV_ENC_INITIALIZE_PARAMS *in) {
    Session *it = session;
    it->config = *in->encodeConfig;
    it->width = in->encodeWidth, it->height = in->encodeHeight, it->is_hevc = same(in->encodeGUID, NV_ENC_CODEC_HEVC_GUID);
    NV_ENC_RC_PARAMS *rate = &it->config.rcParams;
    note("open %s %dx%d gpu=%d %s cq=%d bitrate=%u interval=%d gop=%u", it->is_hevc ? "hevc" : "h264", it->width, it->height,
         it->device, rate->rateControlMode == NV_ENC_PARAMS_RC_VBR ? "vbr" : "other", rate->targetQuality, rate->averageBitRate,
         it->config.frameIntervalP, it->config.gopLength);
    if (it->width < 145 || it->height < 49) return NV_ENC_ERR_INVALID_PARAM;
    return it->config.frameIntervalP == 1 ? NV_ENC_SUCCESS : NV_ENC_ERR_UNSUPPORTED_PARAM;
}

static NVENCSTATUS streams(void *session, void *in, void *out) { return session && in && out ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC; }

static int is_wide(enum AVPixelFormat it) { return it == AV_PIX_FMT_YUV420P10 || it == AV_PIX_FMT_YUV444P10; }
static int is_half(enum AVPixelFormat it) { return it == AV_PIX_FMT_YUV420P || it == AV_PIX_FMT_YUV420P10; }

static NVENCSTATUS begin_h264(Session *it) {
    const AVCodec *codec = avcodec_find_encoder_by_name("libx264");
    it->h264 = avcodec_alloc_context3(codec);
    it->h264->width = it->width, it->h264->height = it->height, it->h264->pix_fmt = it->format;
    it->h264->time_base = (AVRational){1, 1000}, it->h264->framerate = (AVRational){25, 1};
    it->h264->gop_size = 12, it->h264->max_b_frames = 0, it->h264->thread_count = 1;
    it->h264->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    av_opt_set(it->h264->priv_data, "tune", "zerolatency", 0);
    av_opt_set(it->h264->priv_data, "preset", "ultrafast", 0);
    av_opt_set(it->h264->priv_data, "qp", "0", 0);
    return avcodec_open2(it->h264, codec, NULL) < 0 ? NV_ENC_ERR_GENERIC : NV_ENC_SUCCESS;
}

static NVENCSTATUS begin_hevc(Session *it) {
    it->x265 = x265_api_get(is_wide(it->format) ? 10 : 8);
    it->settings = it->x265->param_alloc();
    it->x265->param_default_preset(it->settings, "ultrafast", "zerolatency");
    it->settings->sourceWidth = it->width, it->settings->sourceHeight = it->height;
    it->settings->fpsNum = 25, it->settings->fpsDenom = 1;
    it->settings->internalCsp = is_half(it->format) ? X265_CSP_I420 : X265_CSP_I444;
    it->settings->bRepeatHeaders = 0, it->settings->bEmitInfoSEI = 0, it->settings->logLevel = X265_LOG_NONE, it->settings->keyframeMax = 12;
    it->x265->param_parse(it->settings, "lossless", "1");
    it->x265->param_parse(it->settings, "pools", "none");
    it->hevc = it->x265->encoder_open(it->settings);
    return it->hevc ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC;
}

static NVENCSTATUS create_input(void *session, NV_ENC_CREATE_INPUT_BUFFER *in) {
    Session *it = session;
    int wide = in->bufferFmt == NV_ENC_BUFFER_FORMAT_YUV420_10BIT || in->bufferFmt == NV_ENC_BUFFER_FORMAT_YUV444_10BIT;
    int is_444 = in->bufferFmt == NV_ENC_BUFFER_FORMAT_YUV444 || in->bufferFmt == NV_ENC_BUFFER_FORMAT_YUV444_10BIT;
    Surface *surface = calloc(1, sizeof *surface);
    surface->format = in->bufferFmt;
    surface->pitch = (in->width * (wide ? 2 : 1) + 255) / 256 * 256;
    surface->data = calloc(3, (size_t)surface->pitch * in->height);
    in->inputBuffer = surface;
    if (it->h264 || it->hevc) return NV_ENC_SUCCESS;
    note("format %s", is_444 ? wide ? "yuv444p16" : "yuv444p" : wide ? "p010" : "yuv420p");
    if (is_444) it->format = wide ? AV_PIX_FMT_YUV444P10 : AV_PIX_FMT_YUV444P;
    else it->format = wide ? AV_PIX_FMT_YUV420P10 : AV_PIX_FMT_YUV420P;
    return it->is_hevc ? begin_hevc(it) : begin_h264(it);
}

static NVENCSTATUS destroy_input(void *session, void *buffer) {
    Surface *surface = buffer;
    free(surface->data), free(surface);
    return session ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC;
}

static NVENCSTATUS create_bits(void *session, NV_ENC_CREATE_BITSTREAM_BUFFER *out) {
    out->bitstreamBuffer = calloc(1, sizeof(Bits));
    return session ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC;
}

static NVENCSTATUS destroy_bits(void *session, void *buffer) {
    Bits *bits = buffer;
    free(bits->data), free(bits);
    return session ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC;
}

static NVENCSTATUS lock_input(void *session, NV_ENC_LOCK_INPUT_BUFFER *out) {
    Surface *surface = out->inputBuffer;
    out->bufferDataPtr = surface->data, out->pitch = surface->pitch;
    return session ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC;
}

static NVENCSTATUS unlock_input(void *session, void *buffer) { return session && buffer ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC; }

// Sample `x` of row `y` of plane `plane`, as the format has it.
static int sample(const Surface *it, int height, int plane, int x, int y) {
    size_t whole = (size_t)it->pitch * height;
    const unsigned short *wide = (const unsigned short *)it->data;
    switch (it->format) {
        case NV_ENC_BUFFER_FORMAT_YUV420_10BIT:
            if (plane == 0) return wide[y * it->pitch / 2 + x] >> 6;
            return wide[whole / 2 + y * it->pitch / 2 + 2 * x + plane - 1] >> 6;
        case NV_ENC_BUFFER_FORMAT_YUV444_10BIT: return wide[plane * whole / 2 + y * it->pitch / 2 + x] >> 6;
        case NV_ENC_BUFFER_FORMAT_YUV444: return it->data[plane * whole + (size_t)y * it->pitch + x];
        default: // Y, Cr, Cb
            if (plane == 0) return it->data[(size_t)y * it->pitch + x];
            return it->data[whole + (plane == 1 ? whole / 4 : 0) + (size_t)y * (it->pitch / 2) + x];
    }
}

static AVFrame *frame_of(const Session *it, const Surface *surface) {
    AVFrame *frame = av_frame_alloc();
    frame->width = it->width, frame->height = it->height, frame->format = it->format;
    av_frame_get_buffer(frame, 0);
    for (int plane = 0; plane < 3; plane++) {
        int shift = is_half(it->format) && plane;
        for (int y = 0; y < it->height >> shift; y++)
            for (int x = 0; x < it->width >> shift; x++) {
                unsigned char *row = frame->data[plane] + (size_t)y * frame->linesize[plane];
                int value = sample(surface, it->height, plane, x, y);
                if (is_wide(it->format)) ((unsigned short *)row)[x] = value;
                else row[x] = value;
            }
    }
    return frame;
}

static int append(Bits *bits, const unsigned char *data, size_t size) {
    bits->data = realloc(bits->data, bits->size + size);
    memcpy(bits->data + bits->size, data, size);
    bits->size += size;
    return 0;
}

static int encode_h264(Session *it, AVFrame *frame, Bits *bits) {
    AVPacket *packet = av_packet_alloc();
    int failed = avcodec_send_frame(it->h264, frame) < 0 || avcodec_receive_packet(it->h264, packet) < 0 ||
                 append(bits, packet->data, packet->size);
    bits->is_key = packet->flags & AV_PKT_FLAG_KEY;
    av_packet_free(&packet);
    return failed;
}

static int encode_hevc(Session *it, AVFrame *frame, Bits *bits) {
    x265_picture in, out;
    x265_nal *units;
    uint32_t count;
    it->x265->picture_init(it->settings, &in);
    for (int plane = 0; plane < 3; plane++) in.planes[plane] = frame->data[plane], in.stride[plane] = frame->linesize[plane];
    in.bitDepth = is_wide(it->format) ? 10 : 8;
    in.pts = frame->pts;
    if (it->x265->encoder_encode(it->hevc, &units, &count, &in, &out) != 1) return 1;
    bits->is_key = out.sliceType == X265_TYPE_IDR;
    for (uint32_t i = 0; i < count; i++) append(bits, units[i].payload, units[i].sizeBytes);
    return 0;
}

static NVENCSTATUS encode(void *session, NV_ENC_PIC_PARAMS *in) {
    Session *it = session;
    if (in->encodePicFlags & NV_ENC_PIC_FLAG_EOS) return NV_ENC_SUCCESS;
    if (refuses("picture")) return NV_ENC_ERR_GENERIC;
    Bits *bits = in->outputBitstream;
    AVFrame *frame = frame_of(it, in->inputBuffer);
    frame->pts = in->inputTimeStamp;
    bits->time = in->inputTimeStamp, bits->size = 0;
    int failed = it->is_hevc ? encode_hevc(it, frame, bits) : encode_h264(it, frame, bits);
    av_frame_free(&frame);
    return failed ? NV_ENC_ERR_GENERIC : NV_ENC_SUCCESS;
}

static NVENCSTATUS lock_bits(void *session, NV_ENC_LOCK_BITSTREAM *out) {
    Bits *bits = out->outputBitstream;
    out->bitstreamBufferPtr = bits->data, out->bitstreamSizeInBytes = bits->size;
    out->outputTimeStamp = bits->time;
    out->pictureType = bits->is_key ? NV_ENC_PIC_TYPE_IDR : NV_ENC_PIC_TYPE_P;
    return session ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC;
}

static NVENCSTATUS unlock_bits(void *session, void *buffer) { return session && buffer ? NV_ENC_SUCCESS : NV_ENC_ERR_GENERIC; }

static NVENCSTATUS sequence(void *session, NV_ENC_SEQUENCE_PARAM_PAYLOAD *out) {
    Session *it = session;
    Bits headers = {0};
    if (it->hevc) {
        x265_nal *units;
        uint32_t count;
        it->x265->encoder_headers(it->hevc, &units, &count);
        for (uint32_t i = 0; i < count; i++) append(&headers, units[i].payload, units[i].sizeBytes);
    } else {
        append(&headers, it->h264->extradata, it->h264->extradata_size);
    }
    if (headers.size > out->inBufferSize) return NV_ENC_ERR_GENERIC;
    memcpy(out->spsppsBuffer, headers.data, headers.size);
    *out->outSPSPPSPayloadSize = headers.size;
    free(headers.data);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS destroy(void *session) {
    Session *it = session;
    avcodec_free_context(&it->h264);
    if (it->hevc) it->x265->encoder_close(it->hevc), it->x265->param_free(it->settings);
    free(it);
    return NV_ENC_SUCCESS;
}

static const char *last_error(void *session) { return session ? "the stand-in refuses" : ""; }

NVENCSTATUS NvEncodeAPIGetMaxSupportedVersion(uint32_t *version) {
    *version = NVENCAPI_MAJOR_VERSION << 4 | NVENCAPI_MINOR_VERSION;
    return NV_ENC_SUCCESS;
}

NVENCSTATUS NvEncodeAPICreateInstance(NV_ENCODE_API_FUNCTION_LIST *list) {
    list->nvEncOpenEncodeSessionEx = open_session;
    list->nvEncGetEncodeGUIDCount = guid_count;
    list->nvEncGetEncodeGUIDs = guids;
    list->nvEncGetEncodeCaps = caps;
    list->nvEncGetEncodePresetConfigEx = preset;
    list->nvEncInitializeEncoder = initialize;
    list->nvEncSetIOCudaStreams = streams;
    list->nvEncCreateInputBuffer = create_input;
    list->nvEncDestroyInputBuffer = destroy_input;
    list->nvEncCreateBitstreamBuffer = create_bits;
    list->nvEncDestroyBitstreamBuffer = destroy_bits;
    list->nvEncLockInputBuffer = lock_input;
    list->nvEncUnlockInputBuffer = unlock_input;
    list->nvEncEncodePicture = encode;
    list->nvEncLockBitstream = lock_bits;
    list->nvEncUnlockBitstream = unlock_bits;
    list->nvEncGetSequenceParams = sequence;
    list->nvEncDestroyEncoder = destroy;
    list->nvEncGetLastErrorString = last_error;
    return NV_ENC_SUCCESS;
}
