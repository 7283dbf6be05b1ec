// Numbers of every type, loaded and stored at any address in either byte order, and converted.
//
// Kernels are compiled with -ftz=true, which flushes small float32 to zero. So float32, float16 and
// bfloat16 never meet float instructions here: they become float64, which holds them exactly and is
// never flushed, by arithmetic on their bits; and float64 and integers are rounded to them, once, to
// nearest and ties to even, in the same way. Sums, products and quotients of two float32 are computed
// in float64 and rounded to float32: float64 has more than twice as many bits and two, so that gives
// the correctly rounded result. No operation is fused with another.
#pragma once

#include "common.cuh"

// How a type is loaded: integers exactly as 64 bits, everything else as one or two float64.
struct Number {
  i64 integer;
  double real, imaginary;
};

__device__ __forceinline__ bool is_signed(i64 type) {
  return type == TYPE_I1 || type == TYPE_I2 || type == TYPE_I4 || type == TYPE_I8 ||
         type == TYPE_INTEGER_TABLE8;
}
__device__ __forceinline__ bool is_unsigned(i64 type) {
  return type == TYPE_B1 || type == TYPE_U1 || type == TYPE_U2 || type == TYPE_U4 ||
         type == TYPE_U8;
}
__device__ __forceinline__ bool is_integer(i64 type) { return is_signed(type) || is_unsigned(type); }
__device__ __forceinline__ bool is_complex(i64 type) { return type == TYPE_C8 || type == TYPE_C16; }

__device__ __forceinline__ i64 nbytes_of(i64 type) {
  switch (type) {
    case TYPE_I2: case TYPE_U2: case TYPE_F2: case TYPE_BFLOAT16: return 2;
    case TYPE_I4: case TYPE_U4: case TYPE_F4: return 4;
    case TYPE_I8: case TYPE_U8: case TYPE_F8: case TYPE_C8: return 8;
    case TYPE_C16: return 16;
    default: return 1;
  }
}

// Bytes of the words that a number consists of.
__device__ __forceinline__ i64 component_of(i64 type) {
  return is_complex(type) ? nbytes_of(type) / 2 : nbytes_of(type);
}

// ------------------------------------------------------------------------------ words of memory

__device__ __forceinline__ u64 swapped(u64 word, i64 nbytes) {
  u64 out = 0;
  for (i64 i = 0; i < nbytes; i++) {
    out = out << 8 | (word & 0xff);
    word >>= 8;
  }
  return out;
}

// A word of 1, 2, 4 or 8 bytes, from any address.
__device__ __forceinline__ u64 load_word(const u8 *place, i64 nbytes, bool swap) {
  u64 word = 0;
  if (nbytes == 1) return *place;
  if (!is_aligned(place, (u64)nbytes)) {
    for (i64 i = 0; i < nbytes; i++) word |= (u64)place[i] << (8 * i);
  } else if (nbytes == 2) {
    word = *reinterpret_cast<const u16 *>(place);
  } else if (nbytes == 4) {
    word = *reinterpret_cast<const u32 *>(place);
  } else {
    word = *reinterpret_cast<const u64 *>(place);
  }
  return swap ? swapped(word, nbytes) : word;
}

__device__ __forceinline__ void store_word(u8 *place, u64 word, i64 nbytes, bool swap) {
  if (nbytes == 1) {
    *place = (u8)word;
    return;
  }
  if (swap) word = swapped(word, nbytes);
  if (!is_aligned(place, (u64)nbytes)) {
    for (i64 i = 0; i < nbytes; i++) place[i] = (u8)(word >> (8 * i));
  } else if (nbytes == 2) {
    *reinterpret_cast<u16 *>(place) = (u16)word;
  } else if (nbytes == 4) {
    *reinterpret_cast<u32 *>(place) = (u32)word;
  } else {
    *reinterpret_cast<u64 *>(place) = word;
  }
}

// ------------------------------------------------------------------------- formats of floats

// An IEEE format: bits of precision (the hidden one counts), bits of the exponent.
struct Format {
  i32 precision, exponent;
};

__device__ __forceinline__ Format format_of(i64 type) {
  if (type == TYPE_F2) return {11, 5};
  if (type == TYPE_BFLOAT16) return {8, 8};
  return {24, 8};
}

__device__ __forceinline__ double power_of_two(i32 exponent) {  // from -1022 to 1023
  return __longlong_as_double((i64)(exponent + 1023) << 52);
}

// The value of the bits of a format, exactly.
__device__ __forceinline__ double widened(u64 bits, Format format) {
  i32 fraction_bits = format.precision - 1;
  i32 most = (1 << format.exponent) - 1, bias = most >> 1;
  u64 fraction = bits & ((1ull << fraction_bits) - 1);
  i32 exponent = (i32)(bits >> fraction_bits) & most;
  u64 sign = bits >> (fraction_bits + format.exponent) & 1;
  double magnitude;
  if (exponent == most) {
    u64 payload = fraction << (52 - fraction_bits);
    magnitude = __longlong_as_double((i64)(0x7ffull << 52 | payload));
  } else if (exponent == 0) {
    magnitude = __dmul_rn((double)(i64)fraction, power_of_two(1 - bias - fraction_bits));
  } else {
    magnitude = __longlong_as_double(
        (i64)((u64)(exponent - bias + 1023) << 52 | fraction << (52 - fraction_bits)));
  }
  return __longlong_as_double((i64)((u64)__double_as_longlong(magnitude) | sign << 63));
}

// magnitude * 2**exponent, rounded to a format: its bits.
__device__ __forceinline__ u64 rounded(bool negative, u64 magnitude, i32 exponent, Format format) {
  i32 fraction_bits = format.precision - 1;
  i32 bias = ((1 << format.exponent) - 1) >> 1;
  u64 sign = (u64)negative << (fraction_bits + format.exponent);
  if (magnitude == 0) return sign;
  i32 zeros = __clzll((i64)magnitude);
  magnitude <<= zeros;
  i32 scale = exponent - zeros + 63;  // the value is magnitude / 2**63 * 2**scale
  i32 least = 1 - bias;
  i32 kept = scale >= least ? format.precision : format.precision - (least - scale);
  if (kept < 0) return sign;
  i32 dropped = 64 - kept;
  u64 quotient = dropped == 64 ? 0 : magnitude >> dropped;
  u64 rest = dropped == 64 ? magnitude : magnitude & ((1ull << dropped) - 1);
  u64 half = 1ull << (dropped - 1);
  if (rest > half || (rest == half && (quotient & 1))) quotient++;
  u64 biased = quotient;  // below the normal range the bits are the number itself
  if (scale >= least) {
    biased = ((u64)(scale - least + 1) << fraction_bits) + (quotient - (1ull << fraction_bits));
  }
  u64 infinite = ((1ull << format.exponent) - 1) << fraction_bits;
  return sign | (biased < infinite ? biased : infinite);
}

__device__ __forceinline__ u64 rounded(double value, Format format) {
  u64 bits = (u64)__double_as_longlong(value);
  bool negative = bits >> 63;
  i32 exponent = (i32)(bits >> 52) & 0x7ff;
  u64 fraction = bits & ((1ull << 52) - 1);
  if (exponent == 0x7ff) {
    i32 fraction_bits = format.precision - 1;
    u64 special = ((1ull << format.exponent) - 1) << fraction_bits;
    u64 payload = fraction >> (52 - fraction_bits);
    if (fraction) special |= payload ? payload : 1;  // no NaN becomes an infinity
    return special | (u64)negative << (fraction_bits + format.exponent);
  }
  if (exponent == 0) return rounded(negative, fraction, -1074, format);
  return rounded(negative, fraction | 1ull << 52, exponent - 1075, format);
}

__device__ __forceinline__ u64 rounded_integer(i64 value, bool as_unsigned, Format format) {
  bool negative = !as_unsigned && value < 0;
  return rounded(negative, negative ? 0 - (u64)value : (u64)value, 0, format);
}

// A float64 as the nearest value of float32 or float16.
__device__ __forceinline__ double to_f4(double value) {
  return widened(rounded(value, {24, 8}), {24, 8});
}
__device__ __forceinline__ double to_f2(double value) {
  return widened(rounded(value, {11, 5}), {11, 5});
}

// ------------------------------------------------------------------------- loading and storing

// The number that words in native byte order mean: its one, or a complex number's two.
// table: [256] float32 for types that it explains.
__device__ __forceinline__ Number number_of(u64 word, u64 second, i64 type, u64 table) {
  Number number = {0, 0.0, 0.0};
  switch (type) {
    case TYPE_I1: number.integer = (signed char)word; break;
    case TYPE_I2: number.integer = (short)word; break;
    case TYPE_I4: number.integer = (i32)word; break;
    case TYPE_B1: number.integer = word != 0; break;
    case TYPE_U1: case TYPE_U2: case TYPE_U4: case TYPE_I8: case TYPE_U8:
      number.integer = (i64)word;
      break;
    case TYPE_F2: case TYPE_F4: case TYPE_BFLOAT16:
      number.real = widened(word, format_of(type));
      break;
    case TYPE_F8: number.real = __longlong_as_double((i64)word); break;
    case TYPE_C8:
      number.real = widened(word, {24, 8});
      number.imaginary = widened(second, {24, 8});
      break;
    case TYPE_C16:
      number.real = __longlong_as_double((i64)word);
      number.imaginary = __longlong_as_double((i64)second);
      break;
    default:
      number.real = widened(load_word(bytes_at(table) + 4 * word, 4, false), {24, 8});
      if (type == TYPE_INTEGER_TABLE8) number.integer = (i64)number.real;
  }
  return number;
}

// The number at a place.
__device__ __forceinline__ Number load_number(const u8 *place, i64 type, bool swap, u64 table) {
  i64 nbytes = component_of(type);
  u64 second = is_complex(type) ? load_word(place + nbytes, nbytes, swap) : 0;
  return number_of(load_word(place, nbytes, swap), second, type, table);
}

__device__ __forceinline__ double real_of(const Number &number, i64 type) {
  if (is_signed(type)) return (double)number.integer;
  if (is_unsigned(type)) return (double)(u64)number.integer;
  return number.real;
}

// A float as an integer of C on x86-64, where NumPy's casts come from: towards zero, and the least
// integer for what does not fit (u8: zero for what is too large); types of fewer than 32 bits are cut
// from one of 32. Only u4 of what it does not hold may differ: NumPy's own answer depends on how many
// elements it casts at once.
__device__ __forceinline__ i64 cut_to_integer(double value, i64 type) {
  const double two_31 = 2147483648.0, two_63 = 9223372036854775808.0;
  bool fits_64 = value >= -two_63 && value < two_63;
  if (type == TYPE_U8) {
    if (fits_64) return (i64)value;
    if (!(value >= two_63)) return (i64)(1ull << 63);
    return value < 2 * two_63 ? (i64)((u64)(i64)(value - two_63) ^ 1ull << 63) : 0;
  }
  if (type == TYPE_I8 || type == TYPE_U4) return fits_64 ? (i64)value : (i64)(1ull << 63);
  bool fits_32 = value > -two_31 - 1 && value < two_31;
  return fits_32 ? (i64)(i32)value : -(i64)two_31;
}

// Which NaN a cast makes of one: instructions make it quiet, which is so between float32 (bfloat16) and
// float64; ml_dtypes forgets all but the sign; anything else keeps the bits there is room for.
__device__ __forceinline__ double cast_nan(double value, i64 from, i64 type) {
  u64 bits = (u64)__double_as_longlong(value);
  const u64 quiet = 1ull << 51, special = 0x7ffull << 52;
  if ((bits & special) != special || !(bits << 12)) return value;
  bool from_double = from == TYPE_F8 || from == TYPE_C16;
  bool to_double = type == TYPE_F8 || type == TYPE_C16;
  if (type == TYPE_BFLOAT16 || (type == TYPE_F2 && from == TYPE_BFLOAT16)) {
    bits = (bits & (1ull << 63 | special)) | quiet;
  } else if (from_double != to_double && from != TYPE_F2 && type != TYPE_F2) {
    bits |= quiet;
  }
  return __longlong_as_double((i64)bits);
}

// Store a number of one type as another, as NumPy casts.
__device__ __forceinline__ void store_number(u8 *place, const Number &number, i64 from, i64 type,
                                             bool swap) {
  bool from_integer = is_integer(from);
  double real = real_of(number, from), imaginary = number.imaginary;
  if (!from_integer) real = cast_nan(real, from, type), imaginary = cast_nan(imaginary, from, type);
  i64 nbytes = nbytes_of(type);
  switch (type) {
    case TYPE_B1:
      *place = from_integer ? number.integer != 0 : (real != 0 || imaginary != 0);
      return;
    case TYPE_F2:
      // NumPy goes from integers to float16 by way of float32.
      if (from_integer) real = widened(rounded_integer(number.integer, is_unsigned(from), {24, 8}), {24, 8});
      store_word(place, rounded(real, {11, 5}), 2, swap);
      return;
    case TYPE_F4: case TYPE_BFLOAT16: case TYPE_C8: {
      Format format = format_of(type);
      u64 bits = from_integer ? rounded_integer(number.integer, is_unsigned(from), format)
                              : rounded(real, format);
      store_word(place, bits, type == TYPE_C8 ? 4 : nbytes, swap);
      if (type == TYPE_C8) store_word(place + 4, rounded(imaginary, format), 4, swap);
      return;
    }
    case TYPE_F8: case TYPE_C16:
      store_word(place, (u64)__double_as_longlong(real), 8, swap);
      if (type == TYPE_C16) store_word(place + 8, (u64)__double_as_longlong(imaginary), 8, swap);
      return;
    default:
      store_word(place, (u64)(from_integer ? number.integer : cut_to_integer(real, type)), nbytes,
                 swap);
  }
}
