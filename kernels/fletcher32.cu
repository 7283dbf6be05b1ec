// Fletcher-32 as HDF5 and numcodecs compute it: a thread block a range.
//
// With w the big-endian words of 16 bits (an odd last byte is the upper half of one) of a range of n
// words: low = sum w[i], high = sum (n - i) w[i], both folded to 16 bits by adding the carries. That is
// the remainder by 65535, except that it is never zero unless all words are.
//
// source: [n] addresses, nbytes: [n], value: [n] written. Launch: THREADS threads, n blocks.
// Moves: a byte read for each byte checked.
#include "common.cuh"

#define MODULUS 65535ull
#define OFTEN 256  // words that a thread may add before products of 56 bits could overflow

__device__ __forceinline__ u32 folded(u64 sum, bool any) {
  u32 rest = (u32)(sum % MODULUS);
  return any && rest == 0 ? (u32)MODULUS : rest;
}

extern "C" __global__ void __launch_bounds__(THREADS)
fletcher32(const u64 *source, const u64 *nbytes, u32 *value, i64 n) {
  __shared__ u64 low[THREADS], high[THREADS];
  const u8 *from = bytes_at(source[blockIdx.x]);
  u64 length = nbytes[blockIdx.x], words = (length + 1) / 2, a = 0, b = 0;
  u32 added = 0;
  for (u64 i = threadIdx.x; i < words; i += THREADS) {
    u64 word = (u64)from[2 * i] << 8 | (2 * i + 1 < length ? from[2 * i + 1] : 0);
    a += word;
    b += (words - i) * word;
    if (++added == OFTEN) b %= MODULUS, added = 0;
  }
  low[threadIdx.x] = a;
  high[threadIdx.x] = b % MODULUS;
  for (u32 half = THREADS / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      low[threadIdx.x] += low[threadIdx.x + half];
      high[threadIdx.x] += high[threadIdx.x + half];
    }
  }
  if (threadIdx.x == 0) {
    bool any = low[0] != 0;
    value[blockIdx.x] = folded(high[0], any) << 16 | folded(low[0], any);
  }
  (void)n;
}
EXPORT_SYNC(fletcher32)
