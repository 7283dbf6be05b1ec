// Adler-32 (RFC 1950), of zlib streams and of numcodecs' codec: a thread block a range.
//
// With d the bytes of a range of n: a = 1 + sum d[i], b = n + sum (n - i) d[i], both modulo 65521. So
// threads may sum what they will, and the sums be added.
//
// source: [n] addresses, nbytes: [n], value: [n] written. Launch: THREADS threads, n blocks.
// Moves: a byte read for each byte checked.
#include "common.cuh"

#define MODULUS 65521ull
#define OFTEN 4096  // bytes that a thread may add before products of 52 bits could overflow

extern "C" __global__ void __launch_bounds__(THREADS)
adler32(const u64 *source, const u64 *nbytes, u32 *value, i64 n) {
  __shared__ u64 low[THREADS], high[THREADS];
  const u8 *from = bytes_at(source[blockIdx.x]);
  u64 length = nbytes[blockIdx.x], a = 0, b = 0;
  u32 added = 0;
  for (u64 i = threadIdx.x; i < length; i += THREADS) {
    a += from[i];
    b += (length - i) * from[i];
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
    u64 sum = (low[0] + 1) % MODULUS, weighted = (high[0] + length) % MODULUS;
    value[blockIdx.x] = (u32)(weighted << 16 | sum);
  }
  (void)n;
}
EXPORT_SYNC(adler32)
