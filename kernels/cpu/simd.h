#pragma once

// Highway for one fixed target (AVX2 with FMA, or wider) must be told that AES is not needed:
// x86-64-v3 lacks it and Highway would fall back to SSSE3, which has no fused multiply-add.
#define HWY_DISABLE_PCLMUL_AES
#include <hwy/highway.h>

#include <cstdint>
#include <limits>

// Sixteen floats as one value, on every vector width (two registers on AVX2, one on AVX-512), so
// that results do not depend on the machine (docs/numerics.md, rule 8): sums go over 16 lanes
// (index mod 16) and a halving tree, tails do the arithmetic of whole blocks, and operations are
// fused only by fma() and fnma().
namespace fathom::kernels::simd {

namespace hn = hwy::HWY_NAMESPACE;
static_assert(HWY_STATIC_TARGET == HWY_AVX2 || HWY_STATIC_TARGET == HWY_AVX3 ||
                  HWY_STATIC_TARGET == HWY_AVX3_DL,
              "the kernels need fused multiply-add: compile with -march=x86-64-v3 or above");

inline constexpr std::int64_t kLanes = 16;
using Tag = hn::CappedTag<float, kLanes>;
using IntTag = hn::Rebind<std::int32_t, Tag>;
using Vector = hn::Vec<Tag>;
inline constexpr auto kVectorLanes = static_cast<std::int64_t>(sizeof(Vector) / sizeof(float));
inline constexpr int kParts = kLanes / kVectorLanes;

struct Floats {
  Vector part[kParts];
};
struct Mask {
  hn::Mask<Tag> part[kParts];
};

// How many of the 16 lanes a load or store touches. The lanes beyond are loaded as +0 and not
// stored.
struct WholeBlock {};
struct PartBlock {
  int count = 0;  // 1 ... 15
};

// After the parameters of a lambda: never a call. GCC likes to keep the body of a long loop apart,
// where it loads its constants anew every 16 elements.
#define FATHOM_INLINE_LAMBDA __attribute__((always_inline))

// Calls body(first, extent) for the blocks of 16 of [0, n): WholeBlock for all but a shorter last
// one.
template <class Body>
HWY_INLINE void for_each_block(std::int64_t n, Body&& body) {
  std::int64_t first = 0;
  for (; first + kLanes <= n; first += kLanes) {
    body(first, WholeBlock{});
  }
  if (first < n) {
    body(first, PartBlock{static_cast<int>(n - first)});
  }
}

// --- elementwise building blocks
// -------------------------------------------------------------------------------------

// f(part of a, ...) for every register.
template <class Function, class... Args>
HWY_INLINE Floats map(Function f, const Args&... args) {
  Floats result;
  for (int i = 0; i < kParts; ++i) {
    result.part[i] = f(args.part[i]...);
  }
  return result;
}
template <class Function, class... Args>
HWY_INLINE Mask map_mask(Function f, const Args&... args) {
  Mask result;
  for (int i = 0; i < kParts; ++i) {
    result.part[i] = f(args.part[i]...);
  }
  return result;
}

HWY_INLINE Floats broadcast(float value) {
  Floats result;
  for (int i = 0; i < kParts; ++i) {
    result.part[i] = hn::Set(Tag(), value);
  }
  return result;
}
HWY_INLINE Floats zero() { return broadcast(0.0F); }

HWY_INLINE Floats load(const float* from, WholeBlock = {}) {
  Floats result;
  for (int i = 0; i < kParts; ++i) {
    result.part[i] = hn::LoadU(Tag(), from + i * kVectorLanes);
  }
  return result;
}
HWY_INLINE void store(const Floats& x, float* to, WholeBlock = {}) {
  for (int i = 0; i < kParts; ++i) {
    hn::StoreU(x.part[i], Tag(), to + i * kVectorLanes);
  }
}
// True in the first `count` lanes.
HWY_INLINE Mask first_lanes(std::int64_t count) {
  Mask result;
  for (int i = 0; i < kParts; ++i) {
    const std::int64_t here = count - i * kVectorLanes;
    result.part[i] = hn::FirstN(Tag(), static_cast<std::size_t>(here < 0 ? 0 : here));
  }
  return result;
}
HWY_INLINE Floats load(const float* from, PartBlock block) {
  const Mask mask = first_lanes(block.count);
  Floats result;
  for (int i = 0; i < kParts; ++i) {
    result.part[i] = hn::MaskedLoad(mask.part[i], Tag(), from + i * kVectorLanes);
  }
  return result;
}
HWY_INLINE void store(const Floats& x, float* to, PartBlock block) {
  const Mask mask = first_lanes(block.count);
  for (int i = 0; i < kParts; ++i) {
    hn::BlendedStore(x.part[i], mask.part[i], Tag(), to + i * kVectorLanes);
  }
}

HWY_INLINE Floats operator+(const Floats& a, const Floats& b) {
  return map([](Vector x, Vector y) { return hn::Add(x, y); }, a, b);
}
HWY_INLINE Floats operator-(const Floats& a, const Floats& b) {
  return map([](Vector x, Vector y) { return hn::Sub(x, y); }, a, b);
}
HWY_INLINE Floats operator*(const Floats& a, const Floats& b) {
  return map([](Vector x, Vector y) { return hn::Mul(x, y); }, a, b);
}
HWY_INLINE Floats operator/(const Floats& a, const Floats& b) {
  return map([](Vector x, Vector y) { return hn::Div(x, y); }, a, b);
}
HWY_INLINE Floats operator-(const Floats& a) {
  return map([](Vector x) { return hn::Neg(x); }, a);
}
// a * b + c and c - a * b, rounded once.
HWY_INLINE Floats fma(const Floats& a, const Floats& b, const Floats& c) {
  return map([](Vector x, Vector y, Vector z) { return hn::MulAdd(x, y, z); }, a, b, c);
}
HWY_INLINE Floats fnma(const Floats& a, const Floats& b, const Floats& c) {
  return map([](Vector x, Vector y, Vector z) { return hn::NegMulAdd(x, y, z); }, a, b, c);
}
HWY_INLINE Floats sqrt(const Floats& a) {
  return map([](Vector x) { return hn::Sqrt(x); }, a);
}
HWY_INLINE Floats abs(const Floats& a) {
  return map([](Vector x) { return hn::Abs(x); }, a);
}
// b where either is NaN.
HWY_INLINE Floats max(const Floats& a, const Floats& b) {
  return map([](Vector x, Vector y) { return hn::Max(x, y); }, a, b);
}
HWY_INLINE Floats min(const Floats& a, const Floats& b) {
  return map([](Vector x, Vector y) { return hn::Min(x, y); }, a, b);
}
HWY_INLINE Mask operator<(const Floats& a, const Floats& b) {
  return map_mask([](Vector x, Vector y) { return hn::Lt(x, y); }, a, b);
}
HWY_INLINE Mask operator<=(const Floats& a, const Floats& b) {
  return map_mask([](Vector x, Vector y) { return hn::Le(x, y); }, a, b);
}
HWY_INLINE Mask operator==(const Floats& a, const Floats& b) {
  return map_mask([](Vector x, Vector y) { return hn::Eq(x, y); }, a, b);
}
// mask ? a : b
HWY_INLINE Floats select(const Mask& mask, const Floats& a, const Floats& b) {
  Floats result;
  for (int i = 0; i < kParts; ++i) {
    result.part[i] = hn::IfThenElse(mask.part[i], a.part[i], b.part[i]);
  }
  return result;
}

// --- over the lanes
// --------------------------------------------------------------------------------------------------

// Lane i with lane i + 8: two registers, or the halves of one.
template <class Combine, class V>
HWY_INLINE auto combine_halves(Combine combine, const V* part) {
  if constexpr (kParts == 2) {
    return combine(part[0], part[1]);
  } else {
    const hn::CappedTag<float, 8> d8;
    return combine(hn::LowerHalf(d8, part[0]), hn::UpperHalf(d8, part[0]));
  }
}
// The fixed tree: lane i with lane i + 8, then + 4, + 2, + 1.
template <class Combine>
HWY_INLINE float halving_tree(const Floats& x, Combine combine) {
  const hn::CappedTag<float, 4> d4;
  const auto eight = combine_halves(combine, x.part);
  const auto four = combine(hn::LowerHalf(d4, eight), hn::UpperHalf(d4, eight));
  const auto two = combine(four, hn::Shuffle1032(four));
  return hn::GetLane(combine(two, hn::Shuffle2301(two)));
}
HWY_INLINE float sum(const Floats& x) {
  return halving_tree(x, [](auto a, auto b) { return hn::Add(a, b); });
}
HWY_INLINE float max(const Floats& x) {
  return halving_tree(x, [](auto a, auto b) { return hn::Max(a, b); });
}

// --- functions
// -------------------------------------------------------------------------------------------------------

// 2^n for n in [-126, 127], 0 for -127.
HWY_INLINE Vector power_of_two(hn::Vec<IntTag> n) {
  return hn::BitCast(Tag(), hn::ShiftLeft<23>(hn::Add(n, hn::Set(IntTag(), 127))));
}

// e^(x - n ln 2) by a polynomial of degree 6 (minimax on |x - n ln 2| <= ln 2 / 2, Cephes expf).
HWY_INLINE Vector exp_fraction(Vector x, Vector n) {
  const Tag d;
  // ln 2 in two parts, the first exact times n.
  auto r = hn::NegMulAdd(n, hn::Set(d, 0.693359375F), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4F), r);
  auto p = hn::Set(d, 1.9875691500e-4F);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1F));
  return hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(d, 1.0F));
}

// e^x, within 1.01 ulp over the whole range, denormal results included. exp(-inf) = 0, exp(x
// > 88.73) = inf, NaN stays. x = n ln 2 + r; 2^n in two factors, since n may lie beyond the
// exponents.
HWY_INLINE Vector exp(Vector x) {
  const Tag d;
  x = hn::Min(hn::Set(d, 89.0F), hn::Max(hn::Set(d, -104.0F), x));
  const auto n = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504088896341F)));
  const auto half = hn::ShiftRight<1>(n);
  return hn::Mul(hn::Mul(exp_fraction(x, hn::ConvertTo(d, n)), power_of_two(half)),
                 power_of_two(hn::Sub(n, half)));
}
HWY_INLINE Floats exp(const Floats& x) {
  return map([](Vector v) { return exp(v); }, x);
}

// As exp, within 1.01 ulp, but for x <= 88 only and 0 where x < -87.68: results below about 2^-126.
// Two thirds of the time of exp: for softmax, whose arguments are at most 0. exp_or_zero(-inf) = 0,
// NaN stays.
HWY_INLINE Vector exp_or_zero(Vector x) {
  const Tag d;
  const IntTag di;
  x = hn::Max(hn::Set(d, -88.0F), x);  // then n = -127, whose power of two comes out as 0
  // Adding 1.5 * 2^23 rounds to the integer n, which is left in the low bits: cheaper than
  // converting there and back.
  const auto shift = hn::Set(d, 12582912.0F);
  const auto shifted = hn::Add(hn::Mul(x, hn::Set(d, 1.44269504088896341F)), shift);
  return hn::Mul(exp_fraction(x, hn::Sub(shifted, shift)), power_of_two(hn::BitCast(di, shifted)));
}
HWY_INLINE Floats exp_or_zero(const Floats& x) {
  return map([](Vector v) { return exp_or_zero(v); }, x);
}

// Natural logarithm, within 1 ulp. log(0) = -inf, log(x < 0) = NaN, log(inf) = inf, NaN stays;
// denormals included. x = 2^e m, m in [sqrt(1/2), sqrt(2)), log m by a polynomial in m - 1
// (minimax, Cephes logf).
HWY_INLINE Vector log(Vector x) {
  const Tag d;
  const IntTag di;
  const auto denormal = hn::Lt(x, hn::Set(d, 1.17549435e-38F));
  const auto scaled = hn::IfThenElse(denormal, hn::Mul(x, hn::Set(d, 8388608.0F)), x);
  // Subtracting the bits of sqrt(1/2) puts the border between two exponents at sqrt(2).
  const auto bits = hn::Sub(hn::BitCast(di, scaled), hn::Set(di, 0x3F3504F3));
  const auto exponent = hn::Sub(hn::ConvertTo(d, hn::ShiftRight<23>(bits)),
                                hn::IfThenElseZero(denormal, hn::Set(d, 23.0F)));
  const auto mantissa = hn::Add(hn::And(bits, hn::Set(di, 0x007FFFFF)), hn::Set(di, 0x3F3504F3));
  const auto f = hn::Sub(hn::BitCast(d, mantissa), hn::Set(d, 1.0F));
  const auto square = hn::Mul(f, f);
  auto p = hn::Set(d, 7.0376836292e-2F);
  p = hn::MulAdd(p, f, hn::Set(d, -1.1514610310e-1F));
  p = hn::MulAdd(p, f, hn::Set(d, 1.1676998740e-1F));
  p = hn::MulAdd(p, f, hn::Set(d, -1.2420140846e-1F));
  p = hn::MulAdd(p, f, hn::Set(d, 1.4249322787e-1F));
  p = hn::MulAdd(p, f, hn::Set(d, -1.6668057665e-1F));
  p = hn::MulAdd(p, f, hn::Set(d, 2.0000714765e-1F));
  p = hn::MulAdd(p, f, hn::Set(d, -2.4999993993e-1F));
  p = hn::MulAdd(p, f, hn::Set(d, 3.3333331174e-1F));
  auto tail = hn::Mul(hn::Mul(f, square), p);
  tail = hn::MulAdd(exponent, hn::Set(d, -2.12194440e-4F), tail);
  tail = hn::NegMulAdd(hn::Set(d, 0.5F), square, tail);
  auto result = hn::MulAdd(exponent, hn::Set(d, 0.693359375F), hn::Add(f, tail));
  const auto infinity = hn::Set(d, std::numeric_limits<float>::infinity());
  result = hn::IfThenElse(hn::Eq(x, infinity), infinity, result);
  result = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Neg(infinity), result);
  const auto valid = hn::Ge(x, hn::Zero(d));
  return hn::IfThenElse(valid, result, hn::Set(d, std::numeric_limits<float>::quiet_NaN()));
}
HWY_INLINE Floats log(const Floats& x) {
  return map([](Vector v) { return log(v); }, x);
}

// 1 / (1 + e^-x), within 2.4 ulp where it is at least 2^-126, that is for x >= -87.3; 0 below
// -87.68. NaN stays.
HWY_INLINE Vector sigmoid(Vector x) {
  const Tag d;
  const auto one = hn::Set(d, 1.0F);
  const auto z = exp_or_zero(hn::Or(x, hn::SignBit(d)));  // of -|x|
  const auto numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), z, one);
  return hn::Div(numerator, hn::Add(one, z));
}
HWY_INLINE Floats sigmoid(const Floats& x) {
  return map([](Vector v) { return sigmoid(v); }, x);
}

// Of one float, with the same bits as a lane.
HWY_INLINE float log_scalar(float x) { return hn::GetLane(log(hn::Set(Tag(), x))); }

}  // namespace fathom::kernels::simd
