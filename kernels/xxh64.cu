// The low 32 bits of XXH64 with seed 0, which zstd frames end with (RFC 8878, section 3.1.1).
//
// source: [n] addresses, nbytes: [n], value: [n] written. Launch: THREADS threads, ceil(n / THREADS)
// blocks; a thread does a range, with four sums side by side. Moves: a byte read for each checked.
#include "numbers.cuh"

#define PRIME_1 0x9E3779B185EBCA87ull
#define PRIME_2 0xC2B2AE3D27D4EB4Full
#define PRIME_3 0x165667B19E3779F9ull
#define PRIME_4 0x85EBCA77C2B2AE63ull
#define PRIME_5 0x27D4EB2F165667C5ull

__device__ __forceinline__ u64 rotated(u64 x, u32 by) { return x << by | x >> (64 - by); }

__device__ __forceinline__ u64 mixed(u64 sum, u64 lane) {
  return rotated(sum + lane * PRIME_2, 31) * PRIME_1;
}

__device__ __forceinline__ u64 merged(u64 hash, u64 sum) {
  return (hash ^ mixed(0, sum)) * PRIME_1 + PRIME_4;
}

__device__ u64 hash_of(const u8 *at, u64 length) {
  const u8 *end = at + length;
  u64 hash = PRIME_5;
  if (length >= 32) {
    u64 v1 = PRIME_1 + PRIME_2, v2 = PRIME_2, v3 = 0, v4 = 0 - PRIME_1;
    for (; end - at >= 32; at += 32) {
      v1 = mixed(v1, load_word(at, 8, false));
      v2 = mixed(v2, load_word(at + 8, 8, false));
      v3 = mixed(v3, load_word(at + 16, 8, false));
      v4 = mixed(v4, load_word(at + 24, 8, false));
    }
    hash = rotated(v1, 1) + rotated(v2, 7) + rotated(v3, 12) + rotated(v4, 18);
    hash = merged(merged(merged(merged(hash, v1), v2), v3), v4);
  }
  hash += length;
  for (; end - at >= 8; at += 8) {
    hash = rotated(hash ^ mixed(0, load_word(at, 8, false)), 27) * PRIME_1 + PRIME_4;
  }
  if (end - at >= 4) {
    hash = rotated(hash ^ load_word(at, 4, false) * PRIME_1, 23) * PRIME_2 + PRIME_3;
    at += 4;
  }
  for (; at < end; at++) hash = rotated(hash ^ *at * PRIME_5, 11) * PRIME_1;
  hash = (hash ^ hash >> 33) * PRIME_2;
  hash = (hash ^ hash >> 29) * PRIME_3;
  return hash ^ hash >> 32;
}

extern "C" __global__ void __launch_bounds__(THREADS)
xxh64(const u64 *source, const u64 *nbytes, u32 *value, i64 n) {
  i64 i = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (i < n) value[i] = (u32)hash_of(bytes_at(source[i]), nbytes[i]);
}
EXPORT(xxh64)
