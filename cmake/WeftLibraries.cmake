# The libraries that weft stands on, each as a target weft::NAME. What is missing is said in one
# line with the names of Debian's packages.

# weft_library(NAME HEADER LIBRARY PACKAGE [SUFFIX]): makes the target weft::NAME, or notes PACKAGE as
# missing. SUFFIX is a folder below the include path that the header may lie in.
function(weft_library name header library package)
  find_path(WEFT_${name}_INCLUDE ${header} PATH_SUFFIXES ${ARGN})
  find_library(WEFT_${name}_LIBRARY ${library})
  mark_as_advanced(WEFT_${name}_INCLUDE WEFT_${name}_LIBRARY)
  if(NOT WEFT_${name}_INCLUDE OR NOT WEFT_${name}_LIBRARY)
    set_property(GLOBAL APPEND PROPERTY WEFT_MISSING ${package})
    return()
  endif()
  add_library(weft::${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(weft::${name} PROPERTIES
    IMPORTED_LOCATION ${WEFT_${name}_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${WEFT_${name}_INCLUDE})
endfunction()

weft_library(inih ini.h inih libinih-dev)
weft_library(cares ares.h cares libc-ares-dev)
weft_library(pq libpq-fe.h pq libpq-dev postgresql)
weft_library(ssl openssl/ssl.h ssl libssl-dev)
weft_library(crypto openssl/crypto.h crypto libssl-dev)
weft_library(zlib zlib.h z zlib1g-dev)
weft_library(seccomp seccomp.h seccomp libseccomp-dev)
weft_library(jansson jansson.h jansson libjansson-dev)
if(WEFT_TESTS)
  weft_library(cmocka cmocka.h cmocka libcmocka-dev)
endif()

find_package(Llhttp)
if(NOT Llhttp_FOUND)
  set_property(GLOBAL APPEND PROPERTY WEFT_MISSING node-llhttp)
endif()
find_package(Threads REQUIRED)

get_property(missing GLOBAL PROPERTY WEFT_MISSING)
if(missing)
  list(REMOVE_DUPLICATES missing)
  list(JOIN missing " " missing)
  message(FATAL_ERROR "weft needs what is not installed here: apt-get install ${missing}")
endif()
