# How the tree becomes targets. Sources are found by folder, so that a new family, op, method or command
# is one file and one table row, and no list here.

set(LT_ROOMS "" CACHE INTERNAL "")
set(LT_WARNINGS -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla)

add_library(lt_flags INTERFACE)
target_include_directories(lt_flags INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
target_compile_definitions(lt_flags INTERFACE _GNU_SOURCE LT_VERSION="${PROJECT_VERSION}"
                           $<$<BOOL:${LT_REF_ONLY}>:LT_REF_ONLY>)
target_compile_options(lt_flags INTERFACE ${LT_WARNINGS} -fvisibility=hidden -fno-math-errno -ffp-contract=off)
if(LT_SANITIZE)
  target_compile_options(lt_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(lt_flags INTERFACE -fsanitize=address,undefined)
endif()

# OpenBLAS by the flavour that docs/performance.md measured to be best; any other flavour works too.
function(lt_find_openblas)
  find_library(LT_OPENBLAS_LIB NAMES openblas
               PATHS /usr/lib/${CMAKE_C_LIBRARY_ARCHITECTURE}/openblas-openmp
                     /usr/lib/${CMAKE_C_LIBRARY_ARCHITECTURE}/openblas-pthread NO_DEFAULT_PATH)
  find_library(LT_OPENBLAS_LIB NAMES openblas REQUIRED)
  get_filename_component(dir "${LT_OPENBLAS_LIB}" DIRECTORY)
  find_path(LT_OPENBLAS_INCLUDE NAMES cblas.h
            PATHS /usr/include/${CMAKE_C_LIBRARY_ARCHITECTURE}/openblas-openmp
                  /usr/include/${CMAKE_C_LIBRARY_ARCHITECTURE}/openblas-pthread NO_DEFAULT_PATH)
  find_path(LT_OPENBLAS_INCLUDE NAMES cblas.h PATH_SUFFIXES openblas REQUIRED)
  add_library(lt_openblas INTERFACE)
  target_include_directories(lt_openblas SYSTEM INTERFACE ${LT_OPENBLAS_INCLUDE})
  target_link_libraries(lt_openblas INTERFACE ${LT_OPENBLAS_LIB})
  target_link_options(lt_openblas INTERFACE -Wl,-rpath,${dir})
  message(STATUS "OpenBLAS: ${LT_OPENBLAS_LIB}")
endfunction()

# lt_room(name USES rooms... LIBS libraries...): objects of src/name, and a static library for the tests.
# Files src/name/**/isa_<isa>.c are compiled with the flags of that ISA.
function(lt_room name)
  cmake_parse_arguments(R "" "" "USES;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.c)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" OR LT_REF_ONLY)
    list(FILTER sources EXCLUDE REGEX "isa_(avx|amx)")
  endif()
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64" OR LT_REF_ONLY)
    list(FILTER sources EXCLUDE REGEX "isa_neon")
  endif()
  if(NOT sources)
    return()
  endif()
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "")
  foreach(file ${sources})
    if(file MATCHES "isa_avx2\\.c$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;-ffp-contract=fast")
    elseif(file MATCHES "isa_(avx512|amx)\\.c$")
      set(isa "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx2;-mfma;-mf16c;-mprefer-vector-width=512;-ffp-contract=fast")
      if(file MATCHES "isa_amx")
        list(APPEND isa -mavx512bf16 -mamx-tile -mamx-bf16)
      endif()
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${isa}")
    endif()
  endforeach()
  add_library(lt_${name}_objects OBJECT ${sources})
  set_target_properties(lt_${name}_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(lt_${name}_objects PRIVATE lt_flags ${R_LIBS})
  # jansson's and cblas' headers are seen by the rooms above through the headers of io and linalg
  target_link_libraries(lt_${name}_objects PRIVATE PkgConfig::JANSSON)
  add_library(lt_${name} STATIC $<TARGET_OBJECTS:lt_${name}_objects>)
  target_link_libraries(lt_${name} INTERFACE lt_flags ${R_LIBS} Threads::Threads)
  foreach(room ${R_USES})
    if(TARGET lt_${room})
      target_link_libraries(lt_${name} INTERFACE lt_${room})
    endif()
  endforeach()
  set(LT_ROOMS "${LT_ROOMS};${name}" CACHE INTERNAL "")
endfunction()

function(lt_library)
  set(objects "")
  set(libs "")
  foreach(room ${LT_ROOMS})
    list(APPEND objects $<TARGET_OBJECTS:lt_${room}_objects>)
  endforeach()
  add_library(liblathe SHARED ${objects})
  set_target_properties(liblathe PROPERTIES OUTPUT_NAME lathe VERSION ${PROJECT_VERSION} SOVERSION 0)
  target_include_directories(liblathe INTERFACE ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(liblathe PRIVATE lt_flags lt_openblas OpenMP::OpenMP_C PkgConfig::JANSSON PkgConfig::PCRE2
                        PkgConfig::UTF8PROC PkgConfig::CRYPTO PkgConfig::ZLIB PkgConfig::ZSTD PkgConfig::YAML
                        Threads::Threads m)
  # relative, so that `cmake --install --prefix` and moved trees work
  file(RELATIVE_PATH LT_PC_TO_PREFIX "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
  string(REGEX REPLACE "/$" "" LT_PC_TO_PREFIX "${LT_PC_TO_PREFIX}")
  configure_file(${PROJECT_SOURCE_DIR}/cmake/lathe.pc.in ${PROJECT_BINARY_DIR}/lathe.pc @ONLY)
  install(TARGETS liblathe LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/lathe DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(FILES ${PROJECT_BINARY_DIR}/lathe.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endfunction()

# The program knows the public header only.
function(lt_program name folder)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.c)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  target_compile_options(${name} PRIVATE ${LT_WARNINGS})
  target_link_libraries(${name} PRIVATE lt_flags liblathe PkgConfig::JANSSON)
  set_target_properties(${name} PROPERTIES BUILD_RPATH_USE_ORIGIN ON INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()
