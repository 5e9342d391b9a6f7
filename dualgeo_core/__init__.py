"""DualGeo's library: photos in, places out. It knows no orchestrator, tracker or data versioner."""
