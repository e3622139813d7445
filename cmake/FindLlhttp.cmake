# Finds llhttp and makes the target weft::llhttp: a libllhttp with headers where the distribution has
# one, else the sources that Debian's node-llhttp installs, compiled here.
#
# LLHTTP_STRICT_MODE is for both sides: llhttp 8 reads it in the header too, whose default of 0 would
# disagree with sources that were compiled as strict. Version 9 is always strict.
include(FindPackageHandleStandardArgs)

find_path(LLHTTP_INCLUDE llhttp.h)
find_library(LLHTTP_LIBRARY llhttp)
find_path(LLHTTP_SOURCE_INCLUDE llhttp.h PATHS /usr/share/include/llhttp NO_DEFAULT_PATH)
find_path(LLHTTP_SOURCE llhttp.c PATHS /usr/share/llhttp NO_DEFAULT_PATH)
mark_as_advanced(LLHTTP_INCLUDE LLHTTP_LIBRARY LLHTTP_SOURCE_INCLUDE LLHTTP_SOURCE)

if(LLHTTP_INCLUDE AND LLHTTP_LIBRARY)
  find_package_handle_standard_args(Llhttp DEFAULT_MSG LLHTTP_LIBRARY LLHTTP_INCLUDE)
  add_library(weft::llhttp UNKNOWN IMPORTED GLOBAL)
  set_target_properties(weft::llhttp PROPERTIES
    IMPORTED_LOCATION ${LLHTTP_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${LLHTTP_INCLUDE}
    INTERFACE_COMPILE_DEFINITIONS LLHTTP_STRICT_MODE=1)
else()
  find_package_handle_standard_args(Llhttp DEFAULT_MSG LLHTTP_SOURCE LLHTTP_SOURCE_INCLUDE)
  if(Llhttp_FOUND)
    add_library(weft_llhttp STATIC
      ${LLHTTP_SOURCE}/api.c ${LLHTTP_SOURCE}/http.c ${LLHTTP_SOURCE}/llhttp.c)
    target_compile_options(weft_llhttp PRIVATE -w -fno-omit-frame-pointer)
    target_compile_definitions(weft_llhttp PUBLIC LLHTTP_STRICT_MODE=1)
    target_include_directories(weft_llhttp SYSTEM PUBLIC ${LLHTTP_SOURCE_INCLUDE})
    add_library(weft::llhttp ALIAS weft_llhttp)
  endif()
endif()
