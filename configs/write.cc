#include "configs/write.h"

#include <google/protobuf/text_format.h>

#include "core/error.h"

namespace fathom::config {

std::string to_text(const RunConfig& config) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);
  printer.SetUseUtf8StringEscaping(true);
  std::string text;
  FATHOM_CHECK(printer.PrintToString(config, &text));
  return text;
}

}  // namespace fathom::config
