//! How good a frame is: PSNR, SSIM and the held-out protocol.
