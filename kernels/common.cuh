// What every kernel shares: integer types, the search for a block's item, statuses.
//
// Compiled by nvcc or NVRTC for the GPU, and by a C++ compiler, through host.h, for tests.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define EXPORT(kernel)       // a kernel without barriers
#define EXPORT_SYNC(kernel)  // a kernel in which threads of a block wait for each other
#define UNROLLED _Pragma("unroll")  // the loop that follows: its arrays stay in registers
#define NOT_UNROLLED _Pragma("unroll 1")
#else
#include "host.h"
#define UNROLLED
#define NOT_UNROLLED
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

// For `__launch_bounds__`, where the compiler would rather have more blocks at once, and spill for it:
// 64 registers a thread, which is enough that no word of these kernels goes to memory.
#define BLOCKS_AT_ONCE 4

// The item that a thread block belongs to: first_block[item] <= block < first_block[item + 1].
// first_block: [n + 1], ascending; items without blocks are passed over. All threads search alike, so
// that no barrier is needed; the few words they read are the same for the whole block. Items are mostly
// alike, so the search begins where the block's item would be if all were, and widens from there: each
// step waits for memory.
__device__ __forceinline__ i64 find_item(const i64 *first_block, i64 n, i64 block) {
  i64 low = 0, high = n, step = 1;
  i64 guess = (i64)((float)block * ((float)n / (float)gridDim.x));
  if (guess >= n) guess = n - 1;
  if (first_block[guess] <= block) {
    low = guess;
    for (; low + step < n && first_block[low + step] <= block; step *= 2) low += step;
    if (low + step < n) high = low + step;
  } else {
    high = guess;
    for (; high > step && first_block[high - step] > block; step *= 2) high -= step;
    if (high > step) low = high - step;
  }
  while (high - low > 1) {
    i64 middle = (low + high) / 2;
    if (first_block[middle] <= block) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Note what is wrong with a chunk; the first note stays.
__device__ __forceinline__ void report(i32 *status, i64 chunk, i32 code) {
  atomicCAS(&status[chunk], 0, code);
}

__device__ __forceinline__ const u8 *bytes_at(u64 address) {
  return reinterpret_cast<const u8 *>(address);
}

__device__ __forceinline__ u8 *writable_at(u64 address) { return reinterpret_cast<u8 *>(address); }

__device__ __forceinline__ bool is_aligned(const void *address, u64 nbytes) {
  return (reinterpret_cast<u64>(address) & (nbytes - 1)) == 0;
}
