# weft_plugin(NAME SOURCE... [LIBRARIES LIBRARY...]): builds the plugin NAME.so into
# the folder plugins/ of the build.
#
# A plugin exports one symbol. The flags keep its own functions its own: without them, a function
# of the same name in a library of the host would be called in their place.
if(NOT WEFT_INCLUDE_DIR) # set where find_package(weft) brought this file
  set(WEFT_INCLUDE_DIR ${CMAKE_CURRENT_LIST_DIR}/../include)
endif()

# C++ has templates of its library exported in spite of the flags.
set(WEFT_PLUGIN_MAP ${CMAKE_CURRENT_LIST_DIR}/plugin.map)

function(weft_plugin name)
  cmake_parse_arguments(PARSE_ARGV 1 plugin "" "" "LIBRARIES")
  add_library(${name} MODULE ${plugin_UNPARSED_ARGUMENTS})
  set_target_properties(${name} PROPERTIES
    PREFIX ""
    SUFFIX ".so"
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins)
  target_include_directories(${name} PRIVATE ${WEFT_INCLUDE_DIR})
  target_compile_options(${name} PRIVATE
    -fvisibility=hidden -fno-omit-frame-pointer
    $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique>)
  target_link_options(${name} PRIVATE -Wl,-Bsymbolic-functions
    $<$<LINK_LANGUAGE:CXX>:-Wl,--version-script=${WEFT_PLUGIN_MAP}>)
  if(NOT WEFT_SANITIZE)
    target_link_options(${name} PRIVATE -Wl,-z,defs)
  endif()
  target_link_libraries(${name} PRIVATE ${plugin_LIBRARIES})
endfunction()

# weft_plugin_test(NAME SOURCE... [PLUGIN PLUGIN] [LIBRARIES LIBRARY...]): builds the program NAME, a test with
# weft_test.h, and makes it an entry of ctest. The sources of the plugin are among its own
# (weft_test_start()), or PLUGIN is a target of weft_plugin(), whose file is WEFT_PLUGIN_FILE in the test
# (weft_test_load()).
function(weft_plugin_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "" "PLUGIN" "LIBRARIES")
  add_executable(${name} ${test_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE weft::test ${test_LIBRARIES})
  if(test_PLUGIN)
    target_compile_definitions(${name} PRIVATE WEFT_PLUGIN_FILE="$<TARGET_FILE:${test_PLUGIN}>")
    add_dependencies(${name} ${test_PLUGIN})
  endif()
  add_test(NAME ${name} COMMAND ${name})
endfunction()
