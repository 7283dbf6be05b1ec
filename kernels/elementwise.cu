// Filters that make each element from one stored element.
//
// source, target: [n] addresses of chunks, at any alignment; count: [n] elements; first_block: [n + 1].
// Types are codes of numbers.cuh, `swap` says whether an element lies in reverse byte order.
// Launch: THREADS threads, ceil(count / SCATTER_TILE) blocks a chunk.
// Bounds of 4 blocks leave 64 registers a thread: the compiler's own choice is fewer, and spills.
// Moves: an encoded element read and a decoded one written for each decoded element out.
#include "numbers.cuh"

struct Tile {
  i64 chunk, first, end;
};

__device__ __forceinline__ Tile find_tile(const i64 *first_block, const i64 *count, i64 n) {
  i64 chunk = find_item(first_block, n, blockIdx.x);
  i64 first = (blockIdx.x - first_block[chunk]) * SCATTER_TILE;
  i64 end = first + SCATTER_TILE < count[chunk] ? first + SCATTER_TILE : count[chunk];
  return {chunk, first, end};
}

// NumPy's astype between numbers.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
cast_elements(const u64 *source, const u64 *target, const i64 *count, const i64 *first_block, i64 n,
              i64 encoded_type, i64 encoded_swap, i64 decoded_type, i64 decoded_swap) {
  Tile tile = find_tile(first_block, count, n);
  const u8 *from = bytes_at(source[tile.chunk]);
  u8 *to = writable_at(target[tile.chunk]);
  i64 from_size = nbytes_of(encoded_type), to_size = nbytes_of(decoded_type);
  for (i64 i = tile.first + threadIdx.x; i < tile.end; i += THREADS) {
    Number number = load_number(from + i * from_size, encoded_type, encoded_swap > 1, 0);
    store_number(to + i * to_size, number, encoded_type, decoded_type, decoded_swap > 1);
  }
}
EXPORT(cast_elements)

// numcodecs' fixedscaleoffset undone: `stored / scale + offset` in float16, float32 or float64, each
// operation rounded, then cast.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
undo_fixedscaleoffset(const u64 *source, const u64 *target, const i64 *count, const i64 *first_block,
                      i64 n, i64 encoded_type, i64 encoded_swap, i64 decoded_type, i64 decoded_swap,
                      i64 arithmetic_type, i64 scale_bits, i64 offset_bits) {
  Tile tile = find_tile(first_block, count, n);
  const u8 *from = bytes_at(source[tile.chunk]);
  u8 *to = writable_at(target[tile.chunk]);
  i64 from_size = nbytes_of(encoded_type), to_size = nbytes_of(decoded_type);
  double scale = __longlong_as_double(scale_bits), offset = __longlong_as_double(offset_bits);
  bool half = arithmetic_type == TYPE_F2, single = arithmetic_type == TYPE_F4 || half;
  if (half) scale = to_f2(scale), offset = to_f2(offset);
  if (single) scale = to_f4(scale), offset = to_f4(offset);
  for (i64 i = tile.first + threadIdx.x; i < tile.end; i += THREADS) {
    Number number = load_number(from + i * from_size, encoded_type, encoded_swap > 1, 0);
    double value = __ddiv_rn(real_of(number, encoded_type), scale);
    if (single) value = to_f4(value);
    if (half) value = to_f2(value);
    value = __dadd_rn(value, offset);
    if (single) value = to_f4(value);
    if (half) value = to_f2(value);
    Number result = {0, value, 0.0};
    store_number(to + i * to_size, result, arithmetic_type, decoded_type, decoded_swap > 1);
  }
}
EXPORT(undo_fixedscaleoffset)

// v3's scale_offset undone for integers: exact, or a status. Quotients are rounded down, so a rest is
// never negative for positive scales; computed without overflow.
__device__ __forceinline__ i32 undo_integer(i64 stored, i64 scale, i64 offset, i64 low, i64 high,
                                            bool as_unsigned, i64 *result) {
  u64 quotient;
  bool negative = false;  // whether the quotient is below zero
  if (as_unsigned) {
    u64 divisor = (u64)scale;
    if ((u64)stored % divisor) return STATUS_INEXACT;
    quotient = (u64)stored / divisor;
  } else {
    u64 size = stored < 0 ? 0 - (u64)stored : (u64)stored;
    u64 divisor = scale < 0 ? 0 - (u64)scale : (u64)scale;
    if (size % divisor) return STATUS_INEXACT;
    quotient = size / divisor;
    negative = (stored < 0) != (scale < 0) && quotient;
  }
  // quotient + offset as a sign and 65 bits.
  bool offset_negative = !as_unsigned && offset < 0;
  u64 shift = offset_negative ? 0 - (u64)offset : (u64)offset;
  u64 sum;
  bool carry = false, sum_negative = negative;
  if (negative == offset_negative) {
    sum = quotient + shift;
    carry = sum < quotient;
  } else {
    sum = quotient >= shift ? quotient - shift : shift - quotient;
    sum_negative = (quotient >= shift ? negative : offset_negative) && sum;
  }
  u64 most = sum_negative ? 0 - (u64)low : (u64)high;
  if (carry || sum > most || (sum_negative && as_unsigned)) return STATUS_RANGE;
  *result = (i64)(sum_negative ? 0 - sum : sum);
  return 0;
}

// chunk: [n] rows of `status`. Floats (f4, f8): `stored / scale + offset` in the type.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
undo_scale_offset(const u64 *source, const u64 *target, const i64 *count, const i64 *first_block,
                  i64 n, i64 type, i64 encoded_swap, i64 decoded_swap, i64 scale, i64 offset, i64 low,
                  i64 high, const i64 *chunk, i32 *status) {
  Tile tile = find_tile(first_block, count, n);
  const u8 *from = bytes_at(source[tile.chunk]);
  u8 *to = writable_at(target[tile.chunk]);
  i64 size = nbytes_of(type);
  bool single = type == TYPE_F4;
  double factor = __longlong_as_double(scale), summand = __longlong_as_double(offset);
  if (single) factor = to_f4(factor), summand = to_f4(summand);
  for (i64 i = tile.first + threadIdx.x; i < tile.end; i += THREADS) {
    Number number = load_number(from + i * size, type, encoded_swap > 1, 0);
    if (is_integer(type)) {
      i32 code = undo_integer(number.integer, scale, offset, low, high, is_unsigned(type),
                              &number.integer);
      if (code) report(status, chunk[tile.chunk], code);
    } else {
      double value = __ddiv_rn(number.real, factor);
      if (single) value = to_f4(value);
      value = __dadd_rn(value, summand);
      number.real = single ? to_f4(value) : value;
    }
    store_number(to + i * size, number, type, type, decoded_swap > 1);
  }
}
EXPORT(undo_scale_offset)
