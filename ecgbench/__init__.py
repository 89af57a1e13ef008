"""ecgbench: how robust is this ECG classifier really?"""
