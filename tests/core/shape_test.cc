#include "core/shape.h"

#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"

using namespace fathom;

TEST_CASE("a shape knows its sizes from either end") {
  const Shape shape{2, 3, 5};
  CHECK(shape.rank() == 3);
  CHECK(shape.numel() == 30);
  CHECK(shape[0] == 2);
  CHECK(shape[-1] == 5);
  CHECK(shape == Shape(std::vector<std::int64_t>{2, 3, 5}));
  CHECK_FALSE(shape == Shape{2, 3});
  CHECK_FALSE(shape == Shape{2, 3, 5, 1});
  CHECK_THROWS_AS(shape[3], InternalError);
  CHECK_THROWS_AS(shape[-4], InternalError);
  CHECK(concat(shape) == "[2, 3, 5]");
}

TEST_CASE("a scalar has one element, an empty dimension none") {
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{4, 0}.numel() == 0);
}

TEST_CASE("negative sizes and more than 6 dimensions are refused") {
  CHECK_THROWS_AS((Shape{2, -1}), InternalError);
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1}), InternalError);
}
