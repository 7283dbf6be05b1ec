// Pieces of decoded chunks to the outputs: cropped, stepped, transposed, unshuffled, swapped and
// converted on the way.
//
// pieces: [npieces, 3 + 3 * naxes] rows of pieces.cuh; first_block: [npieces + 1] thread blocks.
// chunk_address, _nbytes, _typesize, _block: [chunks] where each decoded chunk lies, how many bytes
// it has, and the byte shuffle that is still to be undone: element size (0: none) and block size.
// An element of a stored chunk has `pitch` bytes, of which `item` bytes from byte `field` on are read;
// the bytes of its components of `swap` bytes are reversed (0: none are). Outputs lie apart from all
// these tables: so they are read through the cache for what does not change (__restrict__).
//
// Launch: THREADS threads, ceil(elements / SCATTER_TILE) blocks a piece.
// Bounds of 4 blocks leave 64 registers a thread: the compiler's own choice is fewer, and spills.
// Moves: item bytes read and item bytes written for each item bytes out; where an element is alone in
// its sector (steps, transposes) a sector of 32 bytes each.
#include "numbers.cuh"
#include "pieces.cuh"
#include "shuffled.cuh"

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

// Bytes of the words in which an element is moved: its components where these are reversed, else the
// widest that it consists of; single bytes where components are no words.
__device__ __forceinline__ i64 word_of(i64 item, i64 swap) {
  if (swap > 1) return swap == 2 || swap == 4 || swap == 8 ? swap : 1;
  return item % 8 == 0 ? 8 : item % 4 == 0 ? 4 : item % 2 == 0 ? 2 : 1;
}

// Where in an element the word comes from that goes to byte `at`; the bytes inside words are `swapped`.
__device__ __forceinline__ i64 origin_of(i64 at, i64 word, i64 swap) {
  return swap > word ? at / swap * swap + (swap - 1 - at % swap) : at;
}

// Copy the bytes of one element that lie together, some of them in reverse.
__device__ __forceinline__ void copy_item(u8 *target, const u8 *source, i64 item, i64 swap) {
  if (item == 16 && swap <= 1 && is_aligned(source, 16) && is_aligned(target, 16)) {
    *reinterpret_cast<uint4 *>(target) = *reinterpret_cast<const uint4 *>(source);
    return;
  }
  i64 word = word_of(item, swap);
  for (i64 at = 0; at < item; at += word) {
    u64 bits = load_word(source + origin_of(at, word, swap), word, swap > 1);
    store_word(target + at, bits, word, false);
  }
}

// The word at byte `at` of an element of a shuffled chunk.
__device__ __forceinline__ u64 gather_word(const Shuffled &chunk, i64 element, i64 pitch, i64 at,
                                           i64 nbytes, bool swap) {
  u64 word = 0;
  if (chunk.whole) {
    // Where the element is in its block is the same for all its bytes.
    u32 per_block = (u32)chunk.block / (u32)pitch, all = (u32)chunk.nbytes / (u32)pitch;
    u32 before = (u32)element / per_block * per_block;  // elements of the blocks before
    u32 count = all - before < per_block ? all - before : per_block;
    const u8 *plane = chunk.bytes + (u64)before * (u64)pitch + ((u32)element - before);
    for (i64 i = 0; i < nbytes; i++) word |= (u64)plane[(u64)(at + i) * count] << (8 * i);
  } else {
    for (i64 i = 0; i < nbytes; i++) {
      word |= (u64)shuffled_byte(chunk, element * pitch + at + i) << (8 * i);
    }
  }
  return swap ? swapped(word, nbytes) : word;
}

// Gather the bytes of one element of a shuffled chunk.
__device__ __forceinline__ void gather_item(u8 *target, const Shuffled &chunk, i64 element, i64 pitch,
                                            i64 field, i64 item, i64 swap) {
  i64 word = word_of(item, swap);
  for (i64 at = 0; at < item; at += word) {
    i64 from = field + origin_of(at, word, swap);
    store_word(target + at, gather_word(chunk, element, pitch, from, word, swap > 1), word, false);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
scatter_items(const i64 *__restrict__ pieces, const i64 *__restrict__ first_block, i64 npieces,
              i64 naxes, i64 lists, const i64 *__restrict__ list_source,
              const i64 *__restrict__ list_target, const u64 *chunk_address,
              const i64 *chunk_nbytes, const i64 *chunk_typesize, const i64 *chunk_block, i64 pitch,
              i64 field, i64 item, i64 swap, i64 shuffled) {
  i64 piece = find_item(first_block, npieces, blockIdx.x);
  const i64 *row = pieces + piece * (3 + 3 * NAXES);
  i64 count = elements_of(row, NAXES);
  i64 first = (blockIdx.x - first_block[piece]) * SCATTER_TILE;
  i64 end = first + SCATTER_TILE < count ? first + SCATTER_TILE : count;
  const u8 *chunk = bytes_at(chunk_address[row[0]]);
  i64 typesize = SHUFFLED ? chunk_typesize[row[0]] : 0;
  Shuffled shuffle = {};
  if (typesize) {
    shuffle = shuffled_chunk(chunk, chunk_nbytes[row[0]], typesize, chunk_block[row[0]], PITCH);
  }
  for (i64 i = first + threadIdx.x; i < end; i += THREADS) {
    Place place = place_of(row, NAXES, LISTS, list_source, list_target, i, count);
    u8 *target = writable_at(place.target);
    if (typesize) {
      gather_item(target, shuffle, place.element, PITCH, FIELD, ITEM, SWAP);
    } else {
      copy_item(target, chunk + place.element * PITCH + FIELD, ITEM, SWAP);
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

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
scatter_converted(const i64 *__restrict__ pieces, const i64 *__restrict__ first_block, i64 npieces,
                  i64 naxes, i64 lists, const i64 *__restrict__ list_source,
                  const i64 *__restrict__ list_target, const u64 *chunk_address,
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
  i64 word = component_of(SOURCE_TYPE);
  Shuffled shuffle = {};
  if (typesize) {
    shuffle = shuffled_chunk(chunk, chunk_nbytes[row[0]], typesize, chunk_block[row[0]], PITCH);
  }
  for (i64 i = first + threadIdx.x; i < end; i += THREADS) {
    Place place = place_of(row, NAXES, LISTS, list_source, list_target, i, count);
    Number number;
    if (typesize) {
      u64 one = gather_word(shuffle, place.element, PITCH, FIELD, word, SWAP > 1), second = 0;
      if (is_complex(SOURCE_TYPE)) {
        second = gather_word(shuffle, place.element, PITCH, FIELD + word, word, SWAP > 1);
      }
      number = number_of(one, second, SOURCE_TYPE, table);
    } else {
      const u8 *source = chunk + place.element * PITCH + FIELD;
      number = load_number(source, SOURCE_TYPE, SWAP > 1, table);
    }
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
