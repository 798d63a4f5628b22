#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace fathom {

// The functions below are constexpr so that CUDA kernels can call them too. They round each
// operation of doubles by itself, in the order that is written: where no compiler contracts them to
// fused operations (docs/numerics.md, rule 11) the CPU and a GPU have the same bits.

// constant + x (higher[0] + x (higher[1] + ...)), from the innermost parentheses outwards.
template <class... Higher>
constexpr double polynomial(double x, double constant, Higher... higher) noexcept {
  if constexpr (sizeof...(higher) == 0) {
    return constant;
  } else {
    return polynomial(x, higher...) * x + constant;
  }
}

// ln(x) of a positive, finite and normal x, to less than 1 unit in the last place. Of our own: libm
// and CUDA's mathematics differ in last bits.
//   x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2));  ln(1 + f) = 2 atanh(s), s = f / (2 + f).
// The series of atanh is cut where what remains is below 2^-60 of the sum; its first term, 2 s, is
// f - s f, of which f is exact.
constexpr double natural_logarithm(double x) noexcept {
  constexpr std::int64_t kSqrtHalf = 0x3fe6a09e667f3bcd;  // bits of the double above sqrt(1/2)
  constexpr double kLn2High = 0x1.62e42fefa38p-1;         // its product with any k is exact
  constexpr double kLn2Low = 0x1.ef35793c7673p-45;        // ln(2) - kLn2High
  const auto bits = std::bit_cast<std::int64_t>(x);
  const std::int64_t exponent = (bits - kSqrtHalf) >> 52;
  const double f = std::bit_cast<double>(bits - (exponent << 52)) - 1.0;
  const double s = f / (2.0 + f);
  const double square = s * s;
  const double rest = square * polynomial(square, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11,
                                          2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21);
  const auto k = static_cast<double>(exponent);
  return k * kLn2High + (f - (s * (f - rest) - k * kLn2Low));
}

// The x at which the distribution function of N(0, 1) is p, 0 < p < 1, to about 1 part in 10^16.
// Algorithm AS 241, PPND16: Wichura, Applied Statistics 37 (1988), 477-484.
constexpr double inverse_normal_distribution(double p) noexcept {
  const double q = p - 0.5;
  if (-0.425 <= q && q <= 0.425) {
    const double r = 0.180625 - q * q;
    return q *
           polynomial(r, 3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
                      1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
                      3.3430575583588128105e4, 2.5090809287301226727e3) /
           polynomial(r, 1.0, 4.2313330701600911252e1, 6.8718700749205790830e2,
                      5.3941960214247511077e3, 2.1213794301586595867e4, 3.9307895800092710610e4,
                      2.8729085735721942674e4, 5.2264952788528545610e3);
  }
  const double r = std::sqrt(-natural_logarithm(q < 0 ? p : 1.0 - p));
  double magnitude = 0.0;
  if (r <= 5.0) {
    magnitude =
        polynomial(r - 1.6, 1.42343711074968357734e0, 4.63033784615654529590e0,
                   5.76949722146069140550e0, 3.64784832476320460504e0, 1.27045825245236838258e0,
                   2.41780725177450611770e-1, 2.27238449892691845833e-2,
                   7.74545014278341407640e-4) /
        polynomial(r - 1.6, 1.0, 2.05319162663775882187e0, 1.67638483018380384940e0,
                   6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2,
                   5.47593808499534494600e-4, 1.05075007164441684324e-9);
  } else {
    magnitude =
        polynomial(r - 5.0, 6.65790464350110377720e0, 5.46378491116411436990e0,
                   1.78482653991729133580e0, 2.96560571828504891230e-1, 2.65321895265761230930e-2,
                   1.24266094738807843860e-3, 2.71155556874348757815e-5,
                   2.01033439929228813265e-7) /
        polynomial(r - 5.0, 1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1,
                   1.48753612908506148525e-2, 7.86869131145613259100e-4, 1.84631831751005468180e-5,
                   1.42151175831644588870e-7, 2.04426310338993978564e-15);
  }
  return q < 0 ? -magnitude : magnitude;
}

}  // namespace fathom
