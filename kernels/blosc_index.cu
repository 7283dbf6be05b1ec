// The streams inside Blosc frames that lie in device memory only: where they are, and what is known
// of each before it is decoded. The host has read the headers and the blocks' starts.
//
// Of each block: address of its frame, bytes of the frame, where its first stream's size stands,
// number of streams (splits), bytes that each decodes to (part), inner format (as in the flags),
// number of its first stream. out: [streams, 6], for each stream
//   offset in the frame | encoded bytes, 0 where the frame does not hold it | size that it says of
//   itself, -1: none | zstd blocks | checksum that it carries, -1: none | 1 where all else is plain
// Launch: THREADS threads, ceil(blocks / THREADS) blocks; a thread does a block of a frame.
// Moves: some bytes of every stream.
#include "numbers.cuh"

#define HEADER 16
#define SNAPPY 2
#define ZLIB 3
#define ZSTD 4
#define MAGIC 0xFD2FB528u
#define MOST_BLOCK (128 << 10)
#define MOST_BLOCKS_BASE 64  // as in frames/zstd.py
#define LEAST_OUTPUT 256

struct Found {
  i64 size, blocks, check, plain;
};

// A stream that must be one zstd frame without a dictionary (RFC 8878).
__device__ Found look_into_zstd(const u8 *at, i64 length, i64 expected) {
  Found found = {-1, 0, -1, 0};
  if (length < 6 || (u32)load_word(at, 4, false) != MAGIC) return found;
  u32 descriptor = at[4];
  bool single = descriptor & 0x20;
  if (descriptor & 0x18 || descriptor & 3) return found;  // unknown bits, a dictionary
  i64 size_nbytes = descriptor >> 6 ? 1ll << (descriptor >> 6) : single;
  i64 place = 5 + !single;
  if (size_nbytes == 0 || place + size_nbytes > length) return found;
  i64 content = 0;
  for (i64 i = 0; i < size_nbytes; i++) content |= (i64)at[place + i] << (8 * i);
  if (size_nbytes == 2) content += 256;
  i64 window = content;
  if (!single) {
    i64 base = 1ll << (10 + (at[5] >> 3));
    window = base + (base >> 3) * (at[5] & 7);
  }
  place += size_nbytes;
  i64 most = window < MOST_BLOCK ? window : MOST_BLOCK;
  for (bool last = false; !last;) {
    if (place + 3 > length) return found;
    u32 header = (u32)at[place] | (u32)at[place + 1] << 8 | (u32)at[place + 2] << 16;
    u32 kind = header >> 1 & 3;
    i64 size = header >> 3;
    if (kind == 3 || size > most) return found;
    last = header & 1;
    place += 3 + (kind == 1 ? 1 : size);
    if (++found.blocks > MOST_BLOCKS_BASE + expected / LEAST_OUTPUT) return found;
  }
  if (descriptor & 4) {
    if (place + 4 > length) return found;
    found.check = (i64)load_word(at + place, 4, false);
    place += 4;
  }
  found.size = content;
  found.plain = place == length;
  return found;
}

__device__ __forceinline__ Found look_into(const u8 *at, i64 length, i64 expected, i64 inner) {
  if (inner == ZSTD) return look_into_zstd(at, length, expected);
  Found found = {expected, 1, -1, 1};
  if (inner == ZLIB) {
    found.plain = length >= 8 && (at[0] & 15) == 8 && at[0] >> 4 <= 7 && !(at[1] & 0x20) &&
                  (256u * at[0] + at[1]) % 31 == 0;
    if (found.plain) found.check = (i64)load_word(at + length - 4, 4, true);
  } else if (inner == SNAPPY) {
    found.size = -1;
    i64 size = 0;
    for (i64 i = 0; i < 5 && i < length; i++) {
      size |= (i64)(at[i] & 0x7f) << (7 * i);
      if (at[i] < 0x80) {
        found.size = size;
        break;
      }
    }
  }
  return found;
}

extern "C" __global__ void __launch_bounds__(THREADS)
blosc_streams(const u64 *address, const i64 *frame, const i64 *start, const i64 *splits,
              const i64 *part, const i64 *inner, const i64 *first_stream, i64 blocks, i64 *out) {
  i64 block = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (block >= blocks) return;
  const u8 *bytes = bytes_at(address[block]);
  i64 at = start[block], length = frame[block];
  bool inside = true;
  for (i64 split = 0; split < splits[block]; split++) {
    i64 *row = out + 6 * (first_stream[block] + split);
    i64 nbytes = 0;
    inside = inside && at >= HEADER && at <= length - 4;
    if (inside) nbytes = (i64)(i32)load_word(bytes + at, 4, false);
    inside = inside && nbytes > 0 && nbytes <= length - at - 4;
    Found found = {-1, 0, -1, 0};
    if (!inside) nbytes = 0;
    if (inside && nbytes != part[block]) {
      found = look_into(bytes + at + 4, nbytes, part[block], inner[block]);
    }
    row[0] = at + 4;
    row[1] = nbytes;
    row[2] = found.size;
    row[3] = found.blocks;
    row[4] = found.check;
    row[5] = found.plain;
    at += 4 + nbytes;
  }
}
EXPORT(blosc_streams)
