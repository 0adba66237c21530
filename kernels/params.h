// What every kernel is told: one struct by value, the same field for field in src/backend/cuda/params.rs (a test compares).
//
// Formats in device memory (n: pictures of a batch, one after the other):
//   activations  half [n, h, w, c]; c is the number of channels rounded up to 16, the added ones are zero
//   image        half [n, h, w, 4]: R G B, nominal 0..1, 0
//   record       half [h, w, r]: R G B, features, zeros; r = 4 without features, else 3 + features rounded up to 8
//   block output flow float [n, h, w, 4] in the output's own pixels (x, y into img0, x, y into img1), mask half [n, h, w]
//                (a logit), handed half [n, h, w, 8] (absent where a block hands no features on)
//   weights      half, in the order in which lanes feed them to mma.m16n8k16: see tile.cuh
// Fields that are pointers in a kernel are addresses on the host; all fields are naturally aligned, without gaps.
#pragma once

// One picture to make: the two frames and the time between them, 0 is record0. An array of these lies in device memory,
// so that a captured graph can be used again with other frames and times.
struct View {
    const __half* record0;
    const __half* record1;
    float timestep;
    int unused;
};

// What an earlier block left behind; factor: picture pixels for each of its own, a power of two; inverse: 1 / factor.
struct Earlier {
    const float4* flow;
    const __half* mask;
    const __half* handed;
    int h;
    int w;
    float factor;
    float inverse;
};

struct ConvParams {
    const __half* src;      // [n, h, w, cin]
    const __half* weights;  // [cout / 16][cin / 16][9 taps][lane][8]
    const float2* affine;   // [cout] bias, slope below zero
    __half* dst;            // [n, out_h, out_w, cout]
    int h;
    int w;
    int out_h;
    int out_w;
    int cin;
    int cout;
    int residual;           // 1: the input is added before the activation
    int stages;             // chunks of 16 channels in flight, at most cin / 16
};

// grid z: n * 4 phases.
struct DeconvParams {
    const __half* src;      // [n, h, w, cin]
    const __half* weights;  // [phase][NB / 16][cin / 16][4 taps][lane][8]
    const float* bias;      // [NB]
    float4* flow;           // [n, 4h, 4w, 4]
    __half* mask;           // [n, 4h, 4w]
    __half* handed;         // [n, 4h, 4w, 8], or null
    int h;
    int w;
    int cin;
    int stages;
};

// The transposed convolution without pixel shuffle as a 3x3 convolution of four phases; grid z: n.
struct DeconvPlainParams {
    const __half* src;      // [n, h, w, cin]
    const __half* weights;  // [NB / 16][cin / 16][9 taps][lane][8]
    const float* bias;      // [NB]
    float4* flow;           // [n, 2h, 2w, 4]
    __half* mask;           // [n, 2h, 2w]
    int h;
    int w;
    int cin;
    int stages;
};

struct AddParams {
    const __half* src;
    __half* dst;            // dst += src
    unsigned long long chunks;  // of 8 halves
};

// First layer of the head; h, w: padded size of the picture.
struct HeadFirstParams {
    const __half* image;    // [frame_h, frame_w, 4]
    const __half* weights;  // [cout / 16][2][lane][8], K = tap * 3 + channel, 27 of 32 in use
    const float2* affine;   // [cout] bias, slope
    __half* dst;            // [ceil(h / 2), ceil(w / 2), cout]
    int h;
    int w;
    int frame_h;
    int frame_w;
};

// Last layer of the head, its four phases as a 3x3 convolution with NB = 4 * features channels, and the record.
struct HeadLastParams {
    const __half* image;    // [frame_h, frame_w, 4]
    const __half* src;      // [h / 2, w / 2, cin]
    const __half* weights;  // [NB / 16][cin / 16][9 taps][lane][8]
    const float* bias;      // [NB]
    __half* record;         // [h, w, record channels]
    int h;
    int w;
    int frame_h;
    int frame_w;
    int cin;
    int stages;
};

// The record of a network without features: the image and its padding.
struct RecordParams {
    const __half* image;    // [frame_h, frame_w, 4]
    __half* record;         // [h, w, 4]
    int h;
    int w;
    int frame_h;
    int frame_w;
};

// The input of a block. Channels: rgb0 rgb1 features0 features1 timestep mask, handed on, flow (4), zeros up to 16s.
// grid z: n.
struct StageParams {
    const View* views;      // [n]
    Earlier earlier[4];
    __half* dst;            // [n, h, w, c]
    int earlier_count;
    int mask_sum;           // 1: the logits of all earlier blocks are summed; 0: the last one holds
    int full_h;
    int full_w;
    int h;
    int w;
    int channels;           // c
    float factor;           // picture pixels for each pixel of this block
};

// The input of a block gathered straight into the halo tile of its first convolution (stride 2). grid z: n.
struct StageConvParams {
    StageParams stage;      // dst is not used
    const __half* weights;
    const float2* affine;
    __half* dst;            // [n, out_h, out_w, cout]
    int out_h;
    int out_w;
    int cout;
    int unused;
};

// earlier holds the outputs of all blocks, the last one included. grid z: n.
struct FusionParams {
    const View* views;      // [n]
    Earlier earlier[5];
    Earlier refined[1];     // what refines their flows, if anything does
    __half* image;          // [n, frame_h, frame_w, 4]
    int earlier_count;
    int mask_sum;
    int full_h;
    int full_w;
    int frame_h;
    int frame_w;
    int record;             // channels of a record in memory
    int refined_count;      // 0 or 1
};

// The last block's transposed convolution and the picture; earlier holds the outputs of the blocks before. The last
// block's output is at full resolution: full = 4 * (h, w). grid z: n.
struct DeconvFusionParams {
    FusionParams fusion;
    const __half* src;      // [n, h, w, cin]
    const __half* weights;  // as DeconvParams, NB = 32
    const float* bias;
    int h;
    int w;
    int cin;
    int unused;
};

// What refines the flows; earlier holds the outputs of all blocks, the image is not used. grid z: n.
struct RefineParams {
    FusionParams fusion;
    float4* sums;           // [n, ceil(frame_h / 4), ceil(frame_w / 4), 2]
    float4* flow;           // [n, full_h / 4, full_w / 4]
    __half* mask;           // [n, full_h / 4, full_w / 4]
};

// Backward warp of one picture: dst(y, x) = src((y, x) + flow(y, x)), bilinear, clamped to the border.
struct WarpParams {
    const __half* src;      // [h, w, 8 * chunks]
    const float2* flow;     // [h, w] x, y in pixels
    __half* dst;
    int h;
    int w;
    int chunks;
    int unused;
};

// Bilinear resize: dst [out_h, out_w, 8 * chunks] half reads src [h, w, 8 * chunks] half.
struct ResizeParams {
    const __half* src;
    __half* dst;
    int h;
    int w;
    int out_h;
    int out_w;
    int chunks;
    float step;             // source pixels for each pixel of dst, a power of two
};

// A decoded picture in device memory and its image. Planes: Y, Cb, Cr; G, B, R; or Y alone.
struct ColorParams {
    void* planes[3];
    void* image;            // half [h, w, 4], or for rgb8 three planes of h * w bytes: R, G, B
    int h;
    int w;
    int chroma_h;
    int chroma_w;
    int pitch;              // samples from row to row of the first plane
    int chroma_pitch;       // the same of the others
    float luma_zero;
    float luma_span;
    float chroma_zero;
    float chroma_span;
    float peak;             // largest code
    float kr;               // weights of red, green and blue in luma
    float kg;
    float kb;
    float red;              // red gains this times Cr
    float blue;             // blue gains this times Cb
    float green_cb;         // green loses this times Cb
    float green_cr;         // green loses this times Cr
};

// Luma of RGB in 8 bit: rgb is three planes of `pixels` bytes.
struct LumaParams {
    const unsigned char* rgb;
    unsigned char* luma;
    unsigned long long pixels;
};

// Luma of more than 8 bits rounded to 8: `steps` codes to one.
struct Luma8Params {
    const unsigned short* wide;
    unsigned char* luma;
    unsigned long long pixels;
    unsigned long long steps;
};

// partial[block] = sum of (a - b)^2 over the block's share of `samples` bytes.
struct SquaredErrorParams {
    const unsigned char* a;
    const unsigned char* b;
    unsigned long long* partial;
    unsigned long long samples;
};

// partial[block] = sum of the SSIM map over the block's positions. grid: columns, rows of tiles.
struct SsimParams {
    const unsigned char* a; // channels planes of h * w bytes
    const unsigned char* b;
    double* partial;
    int h;
    int w;
    int out_h;              // positions of the window
    int out_w;
    int channels;
    int side;               // of the window, at most 11
    int padding;            // replicated border
    int mixes;              // outputs along the channels
    float taps[12];         // of the window along an axis; unused ones are zero
    float mix[39];          // [mixes][3]: weights of the channels
    int unused;
};

// total[slot] = sum of partial[0 .. count), all of 64 bits: integers or doubles.
struct TotalParams {
    const void* partial;
    void* total;
    unsigned long long count;
    int slot;
    int unused;
};
