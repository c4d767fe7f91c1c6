#include "bezel/error.h"
#include "bezel/report/doctor.h"

// Inside the program, so that an installed command needs no folder of its own to find.
asm(".section .rodata\n"
    ".balign 64\n"
    "bezel_doctor_config:\n.incbin \"" BEZEL_DOCTOR_CONFIG
    "\"\n"
    "bezel_doctor_config_end:\n"
    ".balign 64\n"
    "bezel_doctor_model:\n.incbin \"" BEZEL_DOCTOR_MODEL
    "\"\n"
    "bezel_doctor_model_end:\n"
    ".balign 64\n"
    "bezel_doctor_reference:\n.incbin \"" BEZEL_DOCTOR_REFERENCE
    "\"\n"
    "bezel_doctor_reference_end:\n"
    ".previous\n");

extern const char doctor_config_begin[] asm("bezel_doctor_config");
extern const char doctor_config_end[] asm("bezel_doctor_config_end");
extern const char doctor_model_begin[] asm("bezel_doctor_model");
extern const char doctor_model_end[] asm("bezel_doctor_model_end");
extern const char doctor_reference_begin[] asm("bezel_doctor_reference");
extern const char doctor_reference_end[] asm("bezel_doctor_reference_end");

namespace bezel::report {

std::string_view doctor_file(std::string_view name) {
  if (name == "config.json") return {doctor_config_begin, doctor_config_end};
  if (name == "model.safetensors") return {doctor_model_begin, doctor_model_end};
  if (name == "reference.safetensors") return {doctor_reference_begin, doctor_reference_end};
  throw Error("the program holds no file '", name, "'");
}

}  // namespace bezel::report
