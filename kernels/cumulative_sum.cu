// The delta filter undone: running sums over chunks.
//
// source, target: [n] addresses, at any alignment; count: [n] elements. Types are codes of numbers.cuh.
// Bounds of 4 blocks leave 64 registers a thread: the compiler's own choice is fewer, and spills.
// Moves: an encoded element read and a decoded one written for each decoded element out.
#include "numbers.cuh"

// Integers: a thread block a chunk, a tile of THREADS elements at a time, with the sum so far carried
// from tile to tile. Sums wrap in 64 bits and are cut to the decoded type, which is the same as
// wrapping in it. Launch: THREADS threads, n blocks.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
sum_integers(const u64 *source, const u64 *target, const i64 *count, i64 n, i64 encoded_type,
             i64 encoded_swap, i64 decoded_type, i64 decoded_swap) {
  __shared__ u64 warp_sums[WARPS];
  i64 chunk = blockIdx.x;
  const u8 *from = bytes_at(source[chunk]);
  u8 *to = writable_at(target[chunk]);
  i64 from_size = nbytes_of(encoded_type), to_size = nbytes_of(decoded_type);
  u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  u64 carry = 0;
  for (i64 first = 0; first < count[chunk]; first += THREADS) {
    i64 i = first + threadIdx.x;
    u64 sum = 0;
    if (i < count[chunk]) {
      sum = (u64)load_number(from + i * from_size, encoded_type, encoded_swap > 1, 0).integer;
    }
    for (u32 by = 1; by < WARP; by *= 2) {
      u64 below = __shfl_up_sync(~0u, sum, by);
      if (lane >= by) sum += below;
    }
    if (lane == WARP - 1) warp_sums[warp] = sum;
    __syncthreads();
    u64 before = carry;
    for (u32 w = 0; w < WARPS; w++) {
      if (w < warp) before += warp_sums[w];
      carry += warp_sums[w];
    }
    if (i < count[chunk]) {
      Number number = {(i64)(before + sum), 0.0, 0.0};
      store_number(to + i * to_size, number, TYPE_I8, decoded_type, decoded_swap > 1);
    }
    __syncthreads();
  }
  (void)n;
}
EXPORT_SYNC(sum_integers)

// A sum in a float type, rounded as that type.
__device__ __forceinline__ double added(double a, double b, i64 type) {
  double sum = __dadd_rn(a, b);
  if (type == TYPE_F4 || type == TYPE_C8) return to_f4(sum);
  return type == TYPE_F2 ? to_f2(to_f4(sum)) : sum;
}

// Floats: sums are rounded one after another, in the decoded type, as NumPy does it, so the order is
// what it is. A warp does a chunk: its threads load together, and pass through the sums one by one.
// Launch: THREADS threads, ceil(n / WARPS) blocks.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
sum_floats(const u64 *source, const u64 *target, const i64 *count, i64 n, i64 encoded_type,
           i64 encoded_swap, i64 decoded_type, i64 decoded_swap) {
  i64 chunk = (i64)blockIdx.x * WARPS + threadIdx.x / WARP;
  if (chunk >= n) return;
  u32 lane = threadIdx.x % WARP;
  const u8 *from = bytes_at(source[chunk]);
  u8 *to = writable_at(target[chunk]);
  i64 from_size = nbytes_of(encoded_type), to_size = nbytes_of(decoded_type);
  double real = 0.0, imaginary = 0.0;
  for (i64 first = 0; first < count[chunk]; first += WARP) {
    i64 i = first + lane;
    __align__(16) u8 bytes[16] = {};
    Number mine = {0, 0.0, 0.0};
    if (i < count[chunk]) {
      // Differences are cast to the type of the sums before they are added.
      Number number = load_number(from + i * from_size, encoded_type, encoded_swap > 1, 0);
      store_number(bytes, number, encoded_type, decoded_type, false);
      mine = load_number(bytes, decoded_type, false, 0);
    }
    double my_real = 0.0, my_imaginary = 0.0;
    i64 here = count[chunk] - first < WARP ? count[chunk] - first : WARP;
    for (i64 k = 0; k < here; k++) {
      double next = __shfl_sync(~0u, mine.real, (i32)k);
      double next_imaginary = __shfl_sync(~0u, mine.imaginary, (i32)k);
      bool begins = first == 0 && k == 0;  // the first sum is the first difference, -0.0 and all
      real = begins ? next : added(real, next, decoded_type);
      imaginary = begins ? next_imaginary : added(imaginary, next_imaginary, decoded_type);
      if (k == (i64)lane) my_real = real, my_imaginary = imaginary;
    }
    if (i < count[chunk]) {
      Number sum = {0, my_real, my_imaginary};
      store_number(to + i * to_size, sum, TYPE_C16, decoded_type, decoded_swap > 1);
    }
  }
}
EXPORT_SYNC(sum_floats)
