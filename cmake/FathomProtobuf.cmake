# fathom_protobuf(NAME PROTOS a.proto ... [LINK fathom_config_schema ...]): a library of generated messages. A file configs/schema/run.proto
# imports others by their path from the repository root and is included as "configs/schema/run.pb.h".
function(fathom_protobuf name)
  cmake_parse_arguments(ARG "" "" "PROTOS;LINK" ${ARGN})
  set(generated ${PROJECT_BINARY_DIR}/generated)
  set(sources)
  foreach(proto IN LISTS ARG_PROTOS)
    cmake_path(ABSOLUTE_PATH proto NORMALIZE OUTPUT_VARIABLE absolute)
    cmake_path(RELATIVE_PATH absolute BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE relative)
    string(REGEX REPLACE "\\.proto$" "" stem ${relative})
    add_custom_command(
      OUTPUT ${generated}/${stem}.pb.cc ${generated}/${stem}.pb.h
      COMMAND ${CMAKE_COMMAND} -E make_directory ${generated}
      COMMAND protobuf::protoc --proto_path=${PROJECT_SOURCE_DIR} --cpp_out=${generated} ${relative}
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      DEPENDS ${absolute}
      VERBATIM)
    list(APPEND sources ${generated}/${stem}.pb.cc)
  endforeach()
  add_library(${name} STATIC ${sources})
  target_compile_options(${name} PRIVATE -w)  # not our code
  target_include_directories(${name} SYSTEM PUBLIC ${generated})
  target_link_libraries(${name} PUBLIC fathom_flags protobuf::libprotobuf ${ARG_LINK})
endfunction()
