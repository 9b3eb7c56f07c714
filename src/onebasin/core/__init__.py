"""What every other room stands on: seeds, tensor layouts, explicit state, settings, atomic files, names of plug-ins."""
