// Bit streams to elements: packed numbers of fewer bits than they have in memory, and bools.
//
// A stream holds, for each number, `bits` bits from bit `first_bit` on; with `big` the first bit of a
// byte is its highest. Numbers have `width` bits in memory (a multiple of 8), of which the type has
// `kept`; with sign_extend the highest stored bit is repeated up to there. padding: 0 none, 1 the first
// byte of the chunk says how many bits of the last byte mean nothing, 2 the last byte says so.
//
// source, target: [n] addresses; source_nbytes: [n]; count: [n] numbers; first_block: [n + 1];
// chunk: [n] rows of `status`. Launch: THREADS threads, ceil(count / SCATTER_TILE) blocks a chunk.
// Moves: bits / width bytes read and one written for each byte out.
#include "numbers.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
unpack_bits(const u64 *source, const i64 *source_nbytes, const u64 *target, const i64 *count,
            const i64 *first_block, i64 n, i64 bits, i64 width, i64 kept, i64 first_bit,
            i64 sign_extend, i64 big, i64 padding, const i64 *chunk, i32 *status) {
  i64 item = find_item(first_block, n, blockIdx.x);
  i64 first = (blockIdx.x - first_block[item]) * SCATTER_TILE;
  i64 end = first + SCATTER_TILE < count[item] ? first + SCATTER_TILE : count[item];
  const u8 *stream = bytes_at(source[item]);
  u8 *to = writable_at(target[item]);
  i64 length = source_nbytes[item], total = count[item] * bits;
  if (padding && length == 0) {
    report(status, chunk[item], STATUS_PADDING);
    return;
  }
  if (padding) {
    i64 said = padding == 1 ? stream[0] : stream[length - 1];
    length--;
    if (padding == 1) stream++;
    if (said != 8 * length - total) report(status, chunk[item], STATUS_PADDING);
  }
  if (length != (total + 7) / 8) {
    report(status, chunk[item], STATUS_PADDING);
    return;
  }
  for (i64 i = first + threadIdx.x; i < end; i += THREADS) {
    u64 value = 0;
    for (i64 k = 0; k < bits; k++) {
      i64 at = i * bits + k;
      i64 shift = big ? 7 - at % 8 : at % 8;
      value |= (u64)(stream[at / 8] >> shift & 1) << (first_bit + k);
    }
    if (bits == 8 && width == 8) {
      value &= (1ull << kept) - 1;
    } else if (sign_extend && value >> (first_bit + bits - 1) & 1) {
      for (i64 k = first_bit + bits; k < kept; k++) value |= 1ull << k;
    }
    store_word(to + i * (width / 8), value, width / 8, false);
  }
}
EXPORT(unpack_bits)
