// One file of kernels for the shim, named on the command line: -DKERNELS='"conv.cu"'. Each KERNEL in it registers itself.
#define CUDA_SHIM
#include KERNELS
