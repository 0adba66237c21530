// Every compiled shape of the tiled kernels, one line each. The kernels and the host (src/backend/cuda/instances.rs) read
// the same lines. Columns, unless said otherwise: kernel, stride, NB (output channels of a block), tile rows, tile columns, warps.
//
// A host picks by picture size: large tiles read least for each product, small ones give a coarse block's few pixels to
// more multiprocessors. M_TILES = rows * columns / 16 / warps; M_TILES * NB / 2 accumulators a thread, at most 128.
//
// A kernel file defines the macros of its own lines and includes this file; the others are nothing to it.

#ifndef CONV
#define CONV(...)
#endif
#ifndef CONV_SPLIT
#define CONV_SPLIT(...)
#endif
#ifndef DECONV
#define DECONV(...)
#endif
#ifndef DECONV_PLAIN
#define DECONV_PLAIN(...)
#endif
#ifndef HEAD_FIRST
#define HEAD_FIRST(...)
#endif
#ifndef HEAD_LAST
#define HEAD_LAST(...)
#endif
#ifndef STAGE
#define STAGE(...)
#endif
#ifndef STAGE_CONV
#define STAGE_CONV(...)
#endif
#ifndef DECONV_FUSION
#define DECONV_FUSION(...)
#endif

// Small pictures: one m-tile a warp.
CONV(conv_3x3_n16_4x16, 1, 16, 4, 16, 4)
CONV(conv_3x3_n32_4x16, 1, 32, 4, 16, 4)
CONV(conv_3x3_n48_4x16, 1, 48, 4, 16, 4)
CONV(conv_3x3_n64_4x16, 1, 64, 4, 16, 4)
// The base.
CONV(conv_3x3_n16_8x16, 1, 16, 8, 16, 4)
CONV(conv_3x3_n32_8x16, 1, 32, 8, 16, 4)
CONV(conv_3x3_n48_8x16, 1, 48, 8, 16, 4)
CONV(conv_3x3_n64_8x16, 1, 64, 8, 16, 4)
CONV(conv_3x3_n96_8x16, 1, 96, 8, 16, 4)
// Large pictures: four m-tiles a warp.
CONV(conv_3x3_n16_16x16, 1, 16, 16, 16, 4)
CONV(conv_3x3_n32_16x16, 1, 32, 16, 16, 4)
CONV(conv_3x3_n48_16x16, 1, 48, 16, 16, 4)
CONV(conv_3x3_n64_16x16, 1, 64, 16, 16, 4)

CONV(conv_3x3_s2_n16_4x16, 2, 16, 4, 16, 4)
CONV(conv_3x3_s2_n32_4x16, 2, 32, 4, 16, 4)
CONV(conv_3x3_s2_n48_4x16, 2, 48, 4, 16, 4)
CONV(conv_3x3_s2_n16_8x16, 2, 16, 8, 16, 4)
CONV(conv_3x3_s2_n32_8x16, 2, 32, 8, 16, 4)
CONV(conv_3x3_s2_n48_8x16, 2, 48, 8, 16, 4)
CONV(conv_3x3_s2_n64_8x16, 2, 64, 8, 16, 4)
CONV(conv_3x3_s2_n96_8x16, 2, 96, 8, 16, 4)

// Long sums over few pixels: groups of warps that share the channels of a tile. Columns: as CONV, warps of a group, groups.
CONV_SPLIT(conv_3x3_n16_4x16_g4, 1, 16, 4, 16, 4, 4)
CONV_SPLIT(conv_3x3_n32_4x16_g2, 1, 32, 4, 16, 4, 2)
CONV_SPLIT(conv_3x3_n32_4x16_g4, 1, 32, 4, 16, 4, 4)
CONV_SPLIT(conv_3x3_n48_4x16_g2, 1, 48, 4, 16, 4, 2)
CONV_SPLIT(conv_3x3_n64_4x16_g2, 1, 64, 4, 16, 4, 2)
CONV_SPLIT(conv_3x3_n32_8x16_g2, 1, 32, 8, 16, 4, 2)
CONV_SPLIT(conv_3x3_n48_8x16_g2, 1, 48, 8, 16, 4, 2)
CONV_SPLIT(conv_3x3_n64_8x16_g2, 1, 64, 8, 16, 4, 2)
CONV_SPLIT(conv_3x3_s2_n16_4x16_g4, 2, 16, 4, 16, 4, 4)
CONV_SPLIT(conv_3x3_s2_n32_4x16_g2, 2, 32, 4, 16, 4, 2)
CONV_SPLIT(conv_3x3_s2_n48_4x16_g2, 2, 48, 4, 16, 4, 2)

// lastconv with pixel shuffle, a phase a block. NB = 64: flow, mask and features; 32: no features.
DECONV(deconv_4x4_n32_4x16, 1, 32, 4, 16, 4)
DECONV(deconv_4x4_n32_8x16, 1, 32, 8, 16, 4)
DECONV(deconv_4x4_n64_4x16, 1, 64, 4, 16, 4)
DECONV(deconv_4x4_n64_8x16, 1, 64, 8, 16, 4)
// lastconv without pixel shuffle: its four phases as a 3x3 convolution.
DECONV_PLAIN(deconv_4x4_plain_4x16, 1, 32, 4, 16, 4)
DECONV_PLAIN(deconv_4x4_plain_8x16, 1, 32, 8, 16, 4)

// The head's ends; NB of the last = 4 * features.
HEAD_FIRST(head_first_n16, 2, 16, 8, 16, 4)
HEAD_FIRST(head_first_n32, 2, 32, 8, 16, 4)
HEAD_LAST(head_last_f4, 1, 16, 8, 16, 4)
HEAD_LAST(head_last_f8, 1, 32, 8, 16, 4)
HEAD_LAST(head_last_f16, 1, 64, 8, 16, 4)

// The input of a block. Columns: kernel, features, features handed on, 1 where the block is at full resolution.
STAGE(stage_f0_h0, 0, 0, 0)
STAGE(stage_f0_h0_whole, 0, 0, 1)
STAGE(stage_f4_h0, 4, 0, 0)
STAGE(stage_f4_h0_whole, 4, 0, 1)
STAGE(stage_f4_h8, 4, 8, 0)
STAGE(stage_f4_h8_whole, 4, 8, 1)
STAGE(stage_f8_h0, 8, 0, 0)
STAGE(stage_f8_h0_whole, 8, 0, 1)
STAGE(stage_f8_h8, 8, 8, 0)
STAGE(stage_f8_h8_whole, 8, 8, 1)
STAGE(stage_f16_h8, 16, 8, 0)
STAGE(stage_f16_h8_whole, 16, 8, 1)

// The same and the first convolution. Columns: as STAGE, then NB = cout, tile rows, tile columns, warps of the block.
STAGE_CONV(stage_conv_f0_h0_n16_8x16, 0, 0, 0, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f0_h0_n16_8x16_whole, 0, 0, 1, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f0_h0_n32_8x16, 0, 0, 0, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f0_h0_n32_8x16_whole, 0, 0, 1, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f0_h0_n48_8x16, 0, 0, 0, 48, 8, 16, 5)
STAGE_CONV(stage_conv_f0_h0_n48_8x16_whole, 0, 0, 1, 48, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h0_n16_8x16, 4, 0, 0, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h0_n16_8x16_whole, 4, 0, 1, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h0_n32_8x16, 4, 0, 0, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h0_n32_8x16_whole, 4, 0, 1, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h0_n48_8x16, 4, 0, 0, 48, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h0_n48_8x16_whole, 4, 0, 1, 48, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h8_n16_8x16, 4, 8, 0, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h8_n16_8x16_whole, 4, 8, 1, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h8_n32_8x16, 4, 8, 0, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h8_n32_8x16_whole, 4, 8, 1, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h8_n48_8x16, 4, 8, 0, 48, 8, 16, 5)
STAGE_CONV(stage_conv_f4_h8_n48_8x16_whole, 4, 8, 1, 48, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h0_n16_8x16, 8, 0, 0, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h0_n16_8x16_whole, 8, 0, 1, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h0_n32_8x16, 8, 0, 0, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h0_n32_8x16_whole, 8, 0, 1, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h0_n48_8x16, 8, 0, 0, 48, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h0_n48_8x16_whole, 8, 0, 1, 48, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h8_n16_8x16, 8, 8, 0, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h8_n16_8x16_whole, 8, 8, 1, 16, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h8_n32_8x16, 8, 8, 0, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h8_n32_8x16_whole, 8, 8, 1, 32, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h8_n48_8x16, 8, 8, 0, 48, 8, 16, 5)
STAGE_CONV(stage_conv_f8_h8_n48_8x16_whole, 8, 8, 1, 48, 8, 16, 5)
// For devices with little shared memory.
STAGE_CONV(stage_conv_f8_h8_n16_4x16, 8, 8, 0, 16, 4, 16, 4)
STAGE_CONV(stage_conv_f8_h8_n16_4x16_whole, 8, 8, 1, 16, 4, 16, 4)
STAGE_CONV(stage_conv_f8_h8_n32_4x16, 8, 8, 0, 32, 4, 16, 4)
STAGE_CONV(stage_conv_f8_h8_n32_4x16_whole, 8, 8, 1, 32, 4, 16, 4)

// lastconv of the last block and the picture. Columns: kernel, NB, tile rows, tile columns, warps, whether frames are read
// by a cubic, blocks of a multiprocessor.
DECONV_FUSION(deconv_fusion, 32, 8, 16, 4, false, FUSION_BLOCKS)
DECONV_FUSION(deconv_fusion_cubic, 32, 8, 16, 4, true, CUBIC_BLOCKS)

#undef CONV
#undef CONV_SPLIT
#undef DECONV
#undef DECONV_PLAIN
#undef HEAD_FIRST
#undef HEAD_LAST
#undef STAGE
#undef STAGE_CONV
#undef DECONV_FUSION
