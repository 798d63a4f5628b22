#include "data/hdf5_library.h"

namespace fathom::data {
namespace {

herr_t keep_first(unsigned index, const H5E_error2_t* error, void* text) {
  if (index == 0 && error->desc != nullptr) {
    *static_cast<std::string*>(text) = error->desc;
  }
  return 0;
}

}  // namespace

void prepare_hdf5() {
  H5dont_atexit();  // reports failure when called again
  H5open();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

std::string hdf5_error() {
  std::string cause = "no cause given";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &cause);
  return cause;
}

}  // namespace fathom::data
