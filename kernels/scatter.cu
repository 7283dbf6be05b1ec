// Pieces of decoded chunks to the outputs: cropped, stepped, transposed, unshuffled, swapped and
// converted on the way.
//
// pieces: [npieces, 3 + 3 * naxes] rows of pieces.cuh; first_block: [npieces + 1] thread blocks.
// chunk_address, _nbytes, _typesize, _block: [chunks] where each decoded chunk lies, how many bytes
// it has, and the byte shuffle that is still to be undone: element size (0: none) and block size.
// An element of a stored chunk has `pitch` bytes, of which `item` bytes from byte `field` on are read;
// the bytes of its components of `swap` bytes are reversed (0: none are).
//
// Launch: THREADS threads, ceil(elements / SCATTER_TILE) blocks a piece; scatter_rows: see there.
// Moves: item bytes read and item bytes written for each item bytes out; where an element is alone in
// its sector (steps, transposes) a sector of 32 bytes each.
#include "numbers.cuh"
#include "pieces.cuh"

#ifdef CONST_NAXES
#define NAXES ((i64)CONST_NAXES)
#define LISTS ((i64)CONST_LISTS)
#define PITCH ((i64)CONST_PITCH)
#define FIELD ((i64)CONST_FIELD)
#define ITEM ((i64)CONST_ITEM)
#define SWAP ((i64)CONST_SWAP)
#define SHUFFLED ((i64)CONST_SHUFFLED)
#else
#define NAXES naxes
#define LISTS lists
#define PITCH pitch
#define FIELD field
#define ITEM item
#define SWAP swap
#define SHUFFLED shuffled
#endif
#ifdef CONST_SOURCE_TYPE
#define SOURCE_TYPE ((i64)CONST_SOURCE_TYPE)
#define RESULT_TYPE ((i64)CONST_RESULT_TYPE)
#define ARITHMETIC ((i64)CONST_ARITHMETIC)
#define HAS_SCALE ((i64)CONST_HAS_SCALE)
#define HAS_OFFSET ((i64)CONST_HAS_OFFSET)
#else
#define SOURCE_TYPE source_type
#define RESULT_TYPE result_type
#define ARITHMETIC arithmetic
#define HAS_SCALE has_scale
#define HAS_OFFSET has_offset
#endif

// Where a byte of a chunk lies while its blocks are shuffled.
__device__ __forceinline__ i64 shuffled_place(i64 byte, i64 nbytes, i64 typesize, i64 block) {
  i64 begin = byte / block * block, inside = byte - begin;
  i64 length = nbytes - begin < block ? nbytes - begin : block;
  i64 count = length / typesize, element = inside / typesize;
  return element < count ? begin + (inside - element * typesize) * count + element : byte;
}

// Copy the bytes of one element that lie together, some of them in reverse.
__device__ __forceinline__ void copy_item(u8 *target, const u8 *source, i64 item, i64 swap) {
  if (item == 16 && swap <= 1 && is_aligned(source, 16) && is_aligned(target, 16)) {
    *reinterpret_cast<uint4 *>(target) = *reinterpret_cast<const uint4 *>(source);
  } else if (item == 1 || ((item == 2 || item == 4 || item == 8) && (swap <= 1 || swap == item))) {
    store_word(target, load_word(source, item, swap > 1), item, false);
  } else if (swap > 1) {
    for (i64 at = 0; at < item; at += swap) {
      for (i64 i = 0; i < swap; i++) target[at + i] = source[at + swap - 1 - i];
    }
  } else {
    for (i64 i = 0; i < item; i++) target[i] = source[i];
  }
}

// Gather the bytes of one element of a shuffled chunk.
__device__ __forceinline__ void gather_item(u8 *target, const u8 *chunk, i64 first, i64 item, i64 swap,
                                            i64 nbytes, i64 typesize, i64 block) {
  for (i64 i = 0; i < item; i++) {
    i64 to = swap > 1 ? i / swap * swap + (swap - 1 - i % swap) : i;
    target[to] = chunk[shuffled_place(first + i, nbytes, typesize, block)];
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
scatter_items(const i64 *pieces, const i64 *first_block, i64 npieces, i64 naxes, i64 lists,
              const i64 *list_source, const i64 *list_target, const u64 *chunk_address,
              const i64 *chunk_nbytes, const i64 *chunk_typesize, const i64 *chunk_block, i64 pitch,
              i64 field, i64 item, i64 swap, i64 shuffled) {
  i64 piece = find_item(first_block, npieces, blockIdx.x);
  const i64 *row = pieces + piece * (3 + 3 * NAXES);
  i64 count = elements_of(row, NAXES);
  i64 first = (blockIdx.x - first_block[piece]) * SCATTER_TILE;
  i64 end = first + SCATTER_TILE < count ? first + SCATTER_TILE : count;
  const u8 *chunk = bytes_at(chunk_address[row[0]]);
  i64 typesize = SHUFFLED ? chunk_typesize[row[0]] : 0;
  for (i64 i = first + threadIdx.x; i < end; i += THREADS) {
    Place place = place_of(row, NAXES, LISTS, list_source, list_target, i, count);
    i64 byte = place.element * PITCH + FIELD;
    u8 *target = writable_at(place.target);
    if (typesize) {
      gather_item(target, chunk, byte, ITEM, SWAP, chunk_nbytes[row[0]], typesize,
                  chunk_block[row[0]]);
    } else {
      copy_item(target, chunk + byte, ITEM, SWAP);
    }
  }
  (void)naxes, (void)lists, (void)pitch, (void)field, (void)item, (void)swap, (void)shuffled;
}
EXPORT(scatter_items)

// Values as gpuzarr.engines.conversion converts them: `stored * scale + offset` in float32 or float64
// (arithmetic 1 or 2), rounded once to the result's type; floats to integers towards zero, and
// STATUS_CONVERSION for what does not fit; integers to integers wrap.
__device__ __forceinline__ bool convert_number(u8 *target, Number number, i64 source_type,
                                               i64 result_type, i64 arithmetic, i64 has_scale,
                                               double scale, i64 has_offset, double offset) {
  i64 type = source_type;
  if (arithmetic) {
    bool single = arithmetic == 1;
    if (is_integer(type) && single) {
      number.real = widened(rounded_integer(number.integer, is_unsigned(type), {24, 8}), {24, 8});
    } else {
      number.real = single ? to_f4(real_of(number, type)) : real_of(number, type);
    }
    if (single) {
      number.imaginary = to_f4(number.imaginary);
      scale = to_f4(scale);
      offset = to_f4(offset);
    }
    bool pairs = is_complex(result_type);
    if (has_scale) {
      double real = __dmul_rn(number.real, scale), imaginary = __dmul_rn(number.imaginary, scale);
      if (pairs) {  // times scale + 0i, as NumPy multiplies
        double left = single ? to_f4(real) : real, right = single ? to_f4(imaginary) : imaginary;
        real = __dadd_rn(left, -__dmul_rn(number.imaginary, 0.0));
        imaginary = __dadd_rn(__dmul_rn(number.real, 0.0), right);
      }
      number.real = single ? to_f4(real) : real;
      number.imaginary = single ? to_f4(imaginary) : imaginary;
    }
    if (has_offset) {
      double real = __dadd_rn(number.real, offset);
      number.real = single ? to_f4(real) : real;
      if (pairs) number.imaginary = __dadd_rn(number.imaginary, 0.0);
    }
    type = pairs ? (single ? TYPE_C8 : TYPE_C16) : (single ? TYPE_F4 : TYPE_F8);
  }
  if (is_integer(result_type) && result_type != TYPE_B1 && !is_integer(type)) {
    double whole = number.real < 0 ? -floor(-number.real) : floor(number.real);
    i64 bits = 8 * nbytes_of(result_type);
    double low = is_signed(result_type) ? -power_of_two((i32)bits - 1) : 0.0;
    double high = power_of_two((i32)(is_signed(result_type) ? bits - 1 : bits));
    if (!(whole >= low && whole < high)) return false;
    number.integer = result_type == TYPE_U8 ? (i64)(u64)whole : (i64)whole;
    type = result_type;
  }
  store_number(target, number, type, result_type, false);
  return true;
}

extern "C" __global__ void __launch_bounds__(THREADS)
scatter_converted(const i64 *pieces, const i64 *first_block, i64 npieces, i64 naxes, i64 lists,
                  const i64 *list_source, const i64 *list_target, const u64 *chunk_address,
                  const i64 *chunk_nbytes, const i64 *chunk_typesize, const i64 *chunk_block,
                  i64 pitch, i64 field, i64 item, i64 swap, i64 shuffled, i64 source_type,
                  i64 result_type, i64 arithmetic, i64 has_scale, i64 scale, i64 has_offset,
                  i64 offset, u64 table, i32 *status) {
  i64 piece = find_item(first_block, npieces, blockIdx.x);
  const i64 *row = pieces + piece * (3 + 3 * NAXES);
  i64 count = elements_of(row, NAXES);
  i64 first = (blockIdx.x - first_block[piece]) * SCATTER_TILE;
  i64 end = first + SCATTER_TILE < count ? first + SCATTER_TILE : count;
  const u8 *chunk = bytes_at(chunk_address[row[0]]);
  i64 typesize = SHUFFLED ? chunk_typesize[row[0]] : 0;
  for (i64 i = first + threadIdx.x; i < end; i += THREADS) {
    Place place = place_of(row, NAXES, LISTS, list_source, list_target, i, count);
    i64 byte = place.element * PITCH + FIELD;
    __align__(16) u8 bytes[16];
    const u8 *source = chunk + byte;
    if (typesize) {
      gather_item(bytes, chunk, byte, ITEM, 0, chunk_nbytes[row[0]], typesize, chunk_block[row[0]]);
      source = bytes;
    }
    Number number = load_number(source, SOURCE_TYPE, SWAP > 1, table);
    if (!convert_number(writable_at(place.target), number, SOURCE_TYPE, RESULT_TYPE, ARITHMETIC,
                        HAS_SCALE, __longlong_as_double(scale), HAS_OFFSET,
                        __longlong_as_double(offset))) {
      report(status, row[0], STATUS_CONVERSION);
    }
  }
  (void)naxes, (void)lists, (void)pitch, (void)field, (void)item, (void)swap, (void)shuffled;
  (void)source_type, (void)result_type, (void)arithmetic, (void)has_scale, (void)has_offset;
}
EXPORT(scatter_converted)

// Rows of bytes that stay as they are. Everything counts bytes here, and the last axis is a run: its
// extent are bytes that lie together on both sides. A thread does a slot: up to VECTOR bytes that end
// where the target is aligned, so that stores are wide; loads are, too, where the source is aligned
// alike.
// Launch: THREADS threads; a run of n bytes has (n + 2 * (VECTOR - 1)) / VECTOR slots, a block does
// ROWS_TILE slots of one piece.
extern "C" __global__ void __launch_bounds__(THREADS)
scatter_rows(const i64 *pieces, const i64 *first_block, i64 npieces, i64 naxes, i64 lists,
             const i64 *list_source, const i64 *list_target, const u64 *chunk_address) {
  i64 piece = find_item(first_block, npieces, blockIdx.x);
  const i64 *row = pieces + piece * (3 + 3 * NAXES);
  i64 outer = NAXES - 1, run = row[3 + 3 * outer];
  i64 rows = elements_of(row, outer), slots = (run + 2 * (VECTOR - 1)) / VECTOR;
  i64 count = rows * slots;
  i64 first = (blockIdx.x - first_block[piece]) * ROWS_TILE;
  i64 end = first + ROWS_TILE < count ? first + ROWS_TILE : count;
  const u8 *chunk = bytes_at(chunk_address[row[0]]);
  for (i64 i = first + threadIdx.x; i < end; i += THREADS) {
    i64 line = count < 1ll << 31 ? (i64)((u32)i / (u32)slots) : i / slots;
    Place place = place_of(row, outer, LISTS, list_source, list_target, line, rows);
    i64 head = (i64)(place.target & (VECTOR - 1));  // bytes before the target in its first vector
    i64 begin = (i - line * slots) * VECTOR - head, stop = begin + VECTOR;
    if (begin < 0) begin = 0;
    if (stop > run) stop = run;
    if (begin >= stop) continue;
    u8 *target = writable_at(place.target) + begin;
    const u8 *source = chunk + place.element + begin;
    if (stop - begin == VECTOR && is_aligned(source, VECTOR)) {
      *reinterpret_cast<uint4 *>(target) = *reinterpret_cast<const uint4 *>(source);
    } else if (stop - begin == VECTOR && is_aligned(source, 4)) {
      const u32 *words = reinterpret_cast<const u32 *>(source);
      *reinterpret_cast<uint4 *>(target) = {words[0], words[1], words[2], words[3]};
    } else {
      for (i64 k = 0; k < stop - begin; k++) target[k] = source[k];
    }
  }
  (void)naxes, (void)lists;
}
EXPORT(scatter_rows)
