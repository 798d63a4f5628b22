#include "parallel/parameter.h"

#include "core/error.h"

namespace fathom::parallel {
namespace {

std::int64_t even_part(const std::string& key, std::int64_t size, const Communicator& cut) {
  if (size % cut.world_size() != 0) {
    throw ConfigError(concat(key, ": ", size, " does not divide over ", cut.world_size(),
                             " ranks of the ", cut.name(), " axis"));
  }
  return size / cut.world_size();
}

}  // namespace

Parameter whole_parameter(const std::string& key, const Shape& global_shape,
                          Communicator& replicas) {
  Parameter parameter;
  parameter.name = key;
  parameter.shape = global_shape;
  parameter.replicas = &replicas;
  parameter.weight_decay = global_shape.rank() > 1;
  const bool is_matrix = global_shape.rank() == 2;
  Piece piece;
  piece.key = key;
  piece.global_shape = global_shape;
  piece.num_rows = is_matrix ? global_shape[0] : 1;
  piece.num_columns = global_shape[-1];
  parameter.pieces.push_back(piece);
  return parameter;
}

Parameter row_cut_parameter(const std::string& key, const Shape& global_shape,
                            const Communicator& cut, Communicator& replicas) {
  Parameter parameter = whole_parameter(key, global_shape, replicas);
  Piece& piece = parameter.pieces[0];
  piece.num_rows = even_part(key, global_shape[0], cut);
  piece.row_begin = cut.rank() * piece.num_rows;
  parameter.shape = Shape{piece.num_rows, piece.num_columns};
  return parameter;
}

Parameter column_cut_parameter(const std::string& key, const Shape& global_shape,
                               const Communicator& cut, Communicator& replicas) {
  Parameter parameter = whole_parameter(key, global_shape, replicas);
  Piece& piece = parameter.pieces[0];
  piece.num_columns = even_part(key, global_shape[1], cut);
  piece.column_begin = cut.rank() * piece.num_columns;
  parameter.shape = Shape{piece.num_rows, piece.num_columns};
  return parameter;
}

}  // namespace fathom::parallel
