"""Every instrument in float16 and bfloat16 compared with the half-precision model itself: `__main__` has the bar."""
